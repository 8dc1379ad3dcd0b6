import json

import numpy as np
import pytest
from PIL import Image

from instance_seg_common.visualization import saving


@pytest.mark.parametrize(
    ("largest", "suffix"), [(3, ".png"), (65535, ".png"), (65536, ".tif"), (100000, ".tif")]
)
def test_label_map_survives_the_file(tmp_path, largest, suffix):
    labels = np.zeros((5, 7), dtype=np.int64)
    labels[1, 2], labels[3, 3] = 1, largest
    path = saving.save_label_map(labels, tmp_path / "maps" / "cell.A1")
    assert path.name == f"cell.A1{suffix}"
    assert (np.asarray(Image.open(path)).astype(np.int64) == labels).all()
    assert [f.name for f in path.parent.iterdir()] == [path.name]


class FakeMetadata:
    thing_dataset_id_to_contiguous_id = {18: 0, 44: 1}


def test_coco_results_have_the_ids_of_the_data_set(squares, make_instances, tmp_path):
    classes = {1: 0, 2: 1, 3: 0, 4: 1}
    instances = make_instances(squares["labels"], classes)
    results = saving.coco_results(instances, 7, FakeMetadata())
    assert [r["category_id"] for r in results] == [18, 44, 18, 44]
    assert results[0]["bbox"] == [4, 4, 16, 16] and results[0]["image_id"] == 7
    plain = saving.coco_results(instances, "a.png")
    assert [r["category_id"] for r in plain] == [0, 1, 0, 1]
    path = saving.save_coco_results(results, tmp_path / "results.json")
    assert json.loads(path.read_text()) == results

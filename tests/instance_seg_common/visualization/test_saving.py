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

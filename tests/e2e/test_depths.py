"""Published models on the same nuclei stored with 8, 12 and 16 bits."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from instance_seg_common.data.registration import get_dataset_dicts
from instance_seg_common.engine.predictor import build_predictor, predict
from instance_seg_common.engine.setup import load_model_cfg
from instance_seg_common.evaluation.image_report import prediction_of

IMAGES = 2  # docs/results.md: all of them
DEPTHS = {
    "16 bit": lambda pixels: pixels.astype(np.uint16) * 257,
    "12 bit with an offset": lambda pixels: pixels.astype(np.uint16) * 16 + 100,
}
MODELS = {
    "embedding_R18_dsb2018": "dsb2018_val",
    "mask_rcnn_R18_dsb2018": "dsb2018_val",
    "recurrent_R18_dsb2018_upto20": "dsb2018_val_upto20",
}


@pytest.mark.parametrize("name", MODELS)
def test_label_maps_do_not_depend_on_the_depth(repository_root, shared_data, tmp_path, name):
    opts = ["MODEL.DEVICE", "cpu", "INPUT.NORMALIZATION", "percentile"]
    cfg = load_model_cfg(str(repository_root / "weights" / name), opts)
    model = build_predictor(cfg)
    for record in get_dataset_dicts(MODELS[name])[:IMAGES]:
        expected = label_map(cfg, model, record)
        assert expected.max() > 0
        pixels = np.asarray(Image.open(record["file_name"]))[:, :, 0]
        for deepen in DEPTHS.values():
            path = tmp_path / Path(record["file_name"]).name
            Image.fromarray(deepen(pixels)).save(path)
            found = label_map(cfg, model, {**record, "file_name": str(path)})
            assert (found == expected).mean() > 0.999


def label_map(cfg, model, record):
    """(H, W) ids of what is predicted."""
    instances = predict(cfg, model, record)
    limits = cfg.TEST.LABEL_MAP_SCORE_THRESHOLD, cfg.TEST.LABEL_MAP_MIN_AREA
    return prediction_of(instances, *limits).labels

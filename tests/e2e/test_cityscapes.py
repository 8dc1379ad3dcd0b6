"""Each config of configs/Cityscapes trains on a tree in the official format and is scored by it."""

import json
import math
import re
from pathlib import Path

import pytest
from cityscapes_tree import SEVERAL, write_tree

from instance_seg_common.data.cityscapes import CLASS_IDS
from instance_seg_common.engine import InstanceSegTrainer
from instance_seg_common.engine.setup import load_cfg

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs" / "Cityscapes").glob("*.yaml"))
SMALL = [
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.BACKBONE.FREEZE_AT", 0),
    *("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64),
    *("MODEL.FPN.OUT_CHANNELS", 32, "MODEL.RPN.CONV_DIMS", [32]),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", 32, "MODEL.ROI_MASK_HEAD.CONV_DIM", 16),
    *("MODEL.RPN.POST_NMS_TOPK_TEST", 50),
    *("MODEL.EMBEDDING_INSTANCE_SEG.CHANNELS", 32),
    *("MODEL.EMBEDDING_INSTANCE_SEG.HEAD_CHANNELS", 32),
    *("MODEL.RECURRENT_INSTANCE_SEG.HIDDEN_CHANNELS", [16, 8, 8, 8, 8]),
    *("MODEL.RECURRENT_INSTANCE_SEG.MAX_STEPS", 3),
    *("INPUT.AUGMENTATIONS", [["Resize", {"shape": [64, 128]}]]),
    *("INPUT.MIN_SIZE_TRAIN", (0,)),
    *("SOLVER.IMS_PER_BATCH", 1, "SOLVER.MAX_ITER", 2, "SOLVER.STEPS", (), "TEST.EVAL_PERIOD", 0),
    *("TEST.VALIDATION_LOSS_IMAGES", 0, "TEST.PICTURES", 0, "DATALOADER.NUM_WORKERS", 0),
]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A working directory of its own, beside DETECTRON2_DATASETS with train and val."""
    root = tmp_path / "datasets"
    write_tree(root / "cityscapes", [*SEVERAL[:2], ("train", "aachen", 3), ("train", "ulm", 4)])
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return root


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_small_version_trains_and_is_scored(data, tmp_path, config):
    output = tmp_path / "run"
    output.mkdir()
    cfg = load_cfg(config, [*SMALL, "OUTPUT_DIR", str(output)])
    cfg.freeze()
    trainer = InstanceSegTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    results = json.loads((output / "results.json").read_text())
    assert results["iteration"] == 2
    scores = results["metrics"]["cityscapes"]
    for figure in ("AP", "AP50", "AP100m", "AP50m"):
        assert 0 <= scores[figure] <= 100
        assert {f"{figure}-{name}" for name in CLASS_IDS} <= set(scores)
    assert scores["AP-bus"] is None  # the tree has none
    assert math.isfinite(results["metrics"]["segm"]["AP"])
    assert list((tmp_path / "work").iterdir()) == []


def test_there_is_a_config_for_each_method_and_it_names_its_source():
    assert [config.stem for config in CONFIGS] == [
        "embedding_R50",
        "mask_rcnn_R50",
        "recurrent_R50",
    ]
    for config in CONFIGS:
        text = config.read_text()
        assert re.search(r"et al\. 20\d\d", text), config
        assert "Deviates:" in text

"""A config of each method trains and is scored on small trees of Pascal VOC and of CVPPP."""

import json
import math
import sys
from pathlib import Path

import pytest
import torch
import voc_cvppp_trees as trees

from instance_seg_common.engine import InstanceSegTrainer
from instance_seg_common.engine.checks import check_config
from instance_seg_common.engine.evaluate import evaluate
from instance_seg_common.engine.setup import load_cfg
from instance_seg_common.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = [
    "VOC/mask_rcnn_R50", "VOC/recurrent_R50", "VOC/rsis_R50", "VOC/embedding_R50",
    "CVPPP/mask_rcnn_R18", "CVPPP/recurrent_R18", "CVPPP/rsis_R50", "CVPPP/embedding_R18",
    "CVPPP/embedding_R50",
]  # fmt: skip


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Trees of VOC, SBD and CVPPP that the named sets are read from."""
    root = tmp_path / "sets"
    trees.write_voc(root)
    trees.write_sbd(root)
    trees.write_cvppp(root)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    return root


def shrunken(config, folder, iterations=2):
    """A config with a small network, small images and few iterations."""
    cfg = load_cfg(ROOT / "configs" / f"{config}.yaml")
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS, cfg.MODEL.BACKBONE.FREEZE_AT = "cpu", "", 0
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    cfg.MODEL.RESNETS.NORM = "GN"
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = cfg.MODEL.FPN.OUT_CHANNELS = 64
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = 20
    cfg.MODEL.RECURRENT_INSTANCE_SEG.HIDDEN_CHANNELS = [
        8 for _ in cfg.MODEL.RECURRENT_INSTANCE_SEG.HIDDEN_CHANNELS
    ]
    squash = [["Resize", [[64, 64]]] if a[0] == "Resize" else a for a in cfg.INPUT.AUGMENTATIONS]
    cfg.INPUT.AUGMENTATIONS = squash
    if cfg.INPUT.MIN_SIZE_TEST > 0:
        cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (64,), 64
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS = 2, iterations, ()
    cfg.SOLVER.WARMUP_ITERS = 0
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.TEST.EVAL_PERIOD = cfg.TEST.PICTURES = 0
    cfg.OUTPUT_DIR = str(folder)
    Path(folder).mkdir()
    return cfg


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_of_each_method_trains_and_is_scored(root, tmp_path, config):
    torch.manual_seed(0)
    cfg = shrunken(config, tmp_path / "run")
    trainer = InstanceSegTrainer(cfg)
    trainer.resume_or_load(resume=False)
    results = trainer.train()
    group, name = cfg.TEST.BEST_METRIC.split("/")
    assert 0 <= results[group][name] <= 100
    assert not math.isnan(results["segm"]["AP"])
    if config.startswith("VOC"):
        assert {"AP_r50", "AP_r90", "AP_vol", "AP_vol-person"} <= set(results["voc"])
    else:
        assert {"SBD_std", "DiC_std"} <= {*results["sbd"], *results["dic"]}
    assert (tmp_path / "run" / "model_final.pth").is_file()


def test_eval_only_prints_the_published_figures(root, tmp_path, monkeypatch, capsys):
    cfg = shrunken("CVPPP/mask_rcnn_R18", tmp_path / "run", iterations=1)
    trainer = InstanceSegTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    cfg.MODEL.WEIGHTS = str(tmp_path / "run" / "model_final.pth")
    capsys.readouterr()
    results = evaluate(cfg)
    lines = capsys.readouterr().out.splitlines()
    (own,) = [line for line in lines if line.startswith("| this model")]
    assert f"{100 * results['sbd']['SBD']:.1f}" in own and "cvppp_A1_fold0_val" in own
    assert any("RSIS v1" in line and "70.6" in line for line in lines)
    assert json.loads((tmp_path / "run" / "results.json").read_text())["metrics"]["sbd"]


def test_a_foreground_that_no_set_supplies_is_a_sentence_before_training(root, tmp_path):
    cfg = shrunken("VOC/mask_rcnn_R50", tmp_path / "run")
    cfg.TEST.FOREGROUND_GIVEN = True
    with pytest.raises(UserError, match=r"FOREGROUND_GIVEN.*2007_000003\.jpg"):
        check_config(cfg)


def test_check_dataset_as_a_user_runs_it(root, tmp_path, monkeypatch, capsys):
    import check_dataset

    arguments = ["check_dataset.py", "voc_sbd_train", "--output", str(tmp_path / "pictures")]
    monkeypatch.setattr(sys, "argv", arguments)
    assert check_dataset.main() == 0
    assert "Nothing is wrong." in capsys.readouterr().out
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 4
    (root / "benchmark_RELEASE/dataset/inst/2008_000002.mat").unlink()
    assert check_dataset.main() == 1
    assert "2008_000002" in capsys.readouterr().out

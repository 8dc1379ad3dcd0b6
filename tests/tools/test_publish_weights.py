"""Weights for weights/: small, usable as they are, with the figures of the published file."""

import json
from pathlib import Path

import publish_weights
import pytest
import torch

from instance_seg_common.engine.checkpoint import AtomicCheckpointer, load_weights
from instance_seg_common.engine.trainer import build_model_quietly
from instance_seg_common.errors import UserError

SHAPES = Path(__file__).parents[2] / "configs" / "Synthetic" / "mask_rcnn_R18_shapes.yaml"


@pytest.fixture
def arguments(tiny_cfg, tmp_path):
    model = build_model_quietly(tiny_cfg)
    AtomicCheckpointer(model, tiny_cfg.OUTPUT_DIR).save_weights("model_final")
    run = Path(tiny_cfg.OUTPUT_DIR)
    (run / "results.json").write_text(json.dumps({"iteration": 3, "seconds": 1.5}))
    opts = ["DATASETS.TEST", str(tiny_cfg.DATASETS.TEST), "INPUT.MIN_SIZE_TEST", "64"]
    target = tmp_path / "weights" / "tiny_v1.5"
    options = ["--run", run, "--target", target, "--config-file", SHAPES, *opts]
    return model, run, target, [str(option) for option in options]


def test_half_precision_with_the_figures_of_the_file(arguments, tiny_cfg):
    model, _, target, options = arguments
    publish_weights.main(options)
    assert sorted(f.name for f in target.parent.iterdir()) == ["tiny_v1.5.json", "tiny_v1.5.pth"]
    facts = json.loads(Path(f"{target}.json").read_text())
    assert facts["training"] == {"iteration": 3, "seconds": 1.5}
    assert facts["metrics"]["segm"]["AP"] is not None
    assert "mask_rcnn_R18_shapes.yaml DATASETS.TEST" in facts["command"]
    other = build_model_quietly(tiny_cfg)
    load_weights(other, f"{target}.pth")
    for one, two in zip(model.parameters(), other.parameters()):
        assert torch.allclose(one, two, rtol=1e-3, atol=1e-4)


def test_an_unfinished_run_is_refused(arguments):
    _, run, _, options = arguments
    (run / "results.json").unlink()
    with pytest.raises(UserError, match=r"results\.json"):
        publish_weights.main(options)


def test_a_file_over_the_limit_is_not_left_behind(arguments, monkeypatch):
    _, _, target, options = arguments
    monkeypatch.setattr(publish_weights, "MAX_BYTES", 10)
    with pytest.raises(UserError, match="exceed"):
        publish_weights.main(options)
    assert not Path(f"{target}.pth").exists()

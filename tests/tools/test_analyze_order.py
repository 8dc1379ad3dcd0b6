"""tools/analyze.py order on untrained models: the figures need sequences, not good ones."""

import json
from pathlib import Path

import analyze
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from instance_seg_analysis.order import run as order_run
from instance_seg_common.engine.setup import load_cfg
from instance_seg_common.errors import UserError

OPTIONS = ["MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "64", "SEED", "11"]
NODE = "MODEL.RECURRENT_INSTANCE_SEG"
OPTIONS += [f"{NODE}.MAX_STEPS", "4", f"{NODE}.STOP_THRESHOLD", "0.0"]
BLOCKS = ["f0 res5", "f1 res4", "f2 res3", "f3 res2", "f4 stem", "p5", "p4", "p3", "p2"]


@pytest.fixture(scope="module")
def config(repository_root):
    return str(repository_root / "configs" / "Synthetic" / "recurrent_R18_shapes.yaml")


@pytest.fixture(scope="module")
def weights(config, tmp_path_factory):
    """A model that finds something at every step, and its encoder's weights alone."""
    torch.manual_seed(0)
    model = build_model(load_cfg(config, OPTIONS))
    folder = tmp_path_factory.mktemp("order_weights")
    state = model.state_dict()
    torch.save({"model": state}, folder / "model.pth")
    bottom_up = {k: v for k, v in state.items() if k.startswith("backbone.bottom_up.")}
    torch.save({"model": bottom_up}, folder / "encoder.pth")
    del bottom_up["backbone.bottom_up.stem.conv1.weight"]
    torch.save({"model": bottom_up}, folder / "part.pth")
    return folder


@pytest.fixture
def run(config, weights, tiny_cfg, tmp_path):
    """run(*arguments, score=0.0) -> the JSON."""

    def call(*arguments, score="0.0"):
        folder = tmp_path / "out"
        analyze.main([
            "order", "--model", f"{config}:{weights / 'model.pth'}",
            "--dataset", tiny_cfg.DATASETS.TEST[0], "--output", str(folder), *arguments,
            *OPTIONS, "TEST.LABEL_MAP_SCORE_THRESHOLD", score,
        ])  # fmt: skip
        return json.loads((folder / "order.json").read_text())

    return call


def test_data_set(run, tmp_path, capsys):
    result = run("--fresh", "2", "--max-images", "5")
    assert result["images"] == len(result["sequences"]) == 5
    assert list(result["activations"]) == BLOCKS and set(result["orders"]) == {"r2l", "b2t", "l2s"}
    assert result["before"] == ["fresh, seed 11", "fresh, seed 12"]
    assert [len(taus["before"]) for taus in result["activations"].values()] == [2] * 9
    first = result["activations"]["f0 res5"]["before"]
    assert first[0] != first[1]
    taus = [s["tau"]["r2l"] for s in result["sequences"] if s["tau"]["r2l"] is not None]
    assert result["orders"]["r2l"]["mean"] == pytest.approx(np.mean(taus))
    assert result["pairs"][0]["pairs"] == sum(
        max(len(s["areas"]) - 1, 0) for s in result["sequences"]
    )
    printed = capsys.readouterr().out
    assert all(sentence in printed for sentence in result["sentences"])
    for name in ("tau.png", "pairs.png", "discoveries.png"):
        assert (tmp_path / "out" / name).stat().st_size > 5000


def test_encoder_before_training_from_a_file(run, weights):
    activations = run("--before", str(weights / "encoder.pth"), "--max-images", "3")["activations"]
    for block in BLOCKS[:5]:
        assert activations[block]["before"] == [activations[block]["after"]]
    assert all(activations[block]["before"] == [] for block in BLOCKS[5:])
    with pytest.raises(UserError, match="part.pth of --before do not fit.*stem.conv1"):
        run("--before", str(weights / "part.pth"))
    with pytest.raises(UserError, match="no weights file absent.pth"):
        run("--before", "absent.pth")


@pytest.mark.parametrize(("in_config", "named", "before", "expected"), [
    ("", ":b.pth", None, ("b.pth", "")),
    ("a.pth", ":b.pth", None, ("b.pth", "a.pth")),
    ("a.pth", "", None, ("a.pth", "")),
    ("a.pth", ":b.pth", "", ("b.pth", "")),
])  # fmt: skip
def test_what_training_began_with(config, tmp_path, in_config, named, before, expected):
    own = tmp_path / "own.yaml"
    own.write_text(f"_BASE_: {config}\nMODEL: {{WEIGHTS: '{in_config}'}}\n")
    name, opts = f"{own}{named}", [*OPTIONS, "OUTPUT_DIR", str(tmp_path)]
    known = order_run.weights_before(name, opts, given=before)
    assert (order_run.order_cfg(name, opts).MODEL.WEIGHTS, known) == expected


def test_images_without_annotations(run, tmp_path, capsys):
    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for index in range(2):
        pixels = rng.integers(255, size=(64, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{index}.png")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    result = run("--images", str(tmp_path / "pictures"), str(broken), "--fresh", "0")
    assert [Path(s["file"]).name for s in result["sequences"]] == ["0.png", "1.png"]
    assert "broken.png" in capsys.readouterr().err
    with pytest.raises(UserError, match="No image could be read"):
        run("--images", str(broken), "--fresh", "0")


def test_nothing_found_is_a_sentence(run):
    result = run("--max-images", "2", "--fresh", "1", score="1.1")
    assert result["sentences"][-1] == "No object is found."
    assert result["orders"]["r2l"]["mean"] is None and result["pairs"][0]["pairs"] == 0


def test_only_a_recurrent_model_has_an_order(repository_root, config):
    other = str(repository_root / "configs" / "Synthetic" / "mask_rcnn_R18_shapes.yaml")
    with pytest.raises(UserError, match="GeneralizedRCNN, which finds all objects at once"):
        analyze.main(["order", "--model", f"{other}:a.pth"])
    with pytest.raises(UserError, match="--max-images is 0"):
        analyze.main(["order", "--model", config, "--max-images", "0"])

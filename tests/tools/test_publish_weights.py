"""Weights for weights/: small, usable as they are, with the figures of the published file."""

import json
from pathlib import Path

import publish_weights
import pytest
import torch
import torchvision

from instance_seg_common.engine.build import build_model_quietly
from instance_seg_common.engine.checkpoint import AtomicCheckpointer, load_weights
from instance_seg_common.engine.setup import load_cfg
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
    options = ["--model", f"{SHAPES}:{run / 'model_final.pth'}", "--target", target, *opts]
    return model, run, target, [str(option) for option in options]


def test_half_precision_with_the_figures_of_the_file(arguments, tiny_cfg):
    model, _, target, options = arguments
    publish_weights.main(options)
    assert sorted(f.name for f in target.parent.iterdir()) == ["tiny_v1.5.json", "tiny_v1.5.pth"]
    facts = json.loads(Path(f"{target}.json").read_text())
    assert facts["training"] == {"iteration": 3, "seconds": 1.5}
    assert facts["config"] == str(SHAPES)
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


def test_without_a_checkpoint_that_of_the_output_dir_is_asked_for(arguments, tmp_path):
    *_, target, _ = arguments
    options = ["--model", str(SHAPES), "--target", str(target), "OUTPUT_DIR", str(tmp_path / "new")]
    with pytest.raises(UserError, match=r"new has no model_final\.pth"):
        publish_weights.main(options)
    with pytest.raises(UserError, match="--model and --target"):
        publish_weights.main(["--model", str(SHAPES)])


def test_a_file_over_the_limit_is_not_left_behind(arguments, monkeypatch):
    _, _, target, options = arguments
    monkeypatch.setattr(publish_weights, "MAX_BYTES", 10)
    with pytest.raises(UserError, match="exceed"):
        publish_weights.main(options)
    assert not Path(f"{target}.pth").exists()


def test_the_table_of_the_published_models_is_current(repository_root):
    readme = (repository_root / "weights" / "README.md").read_text()
    assert publish_weights.with_table(readme, publish_weights.models_table()) == readme, (
        "run: python tools/publish_weights.py --table"
    )
    for file in (repository_root / "weights").glob("*.pth"):
        assert f"| `{file.stem}` " in readme
        assert (
            repository_root / json.loads(file.with_suffix(".json").read_text())["config"]
        ).is_file()


def test_the_table_is_written_between_its_markers(tmp_path):
    metrics = {"segm": {"AP": 12.34, "AP50": None}, "sbd": {"SBD": 0.5}, "dic": {"DiC": 1.0}}
    facts = {"config": "configs/c.yaml", "datasets": ["d"], "metrics": metrics}
    facts["training"] = {"iteration": 10, "seconds": 120}
    (tmp_path / "one.json").write_text(json.dumps(facts))
    (tmp_path / "one.pth").write_bytes(bytes(1_500_000))
    table = publish_weights.models_table(tmp_path)
    cells = [cell.strip() for cell in table.splitlines()[2].split("|")[1:-1]]
    assert cells == [
        "`one`", "`configs/c.yaml`", "d", "12.3", "-", "-", "0.500", "1.00", "10 in 2 min", "1.5"
    ]  # fmt: skip
    first, last = publish_weights.MARKERS
    text = publish_weights.with_table(f"before\n{first}\nold\n{last}\nafter\n", table)
    assert text == f"before\n{first}\n\n{table}\n\n{last}\nafter\n"
    assert publish_weights.with_table(text, table) == text
    with pytest.raises(UserError, match="needs the lines"):
        publish_weights.with_table("no markers", table)


def test_weights_of_torchvision_become_a_start(tmp_path, capsys):
    torch.manual_seed(0)
    state = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(state, tmp_path / "resnet18.pth")
    words = ("--torchvision", tmp_path / "resnet18.pth", "--model", SHAPES)
    publish_weights.main([str(w) for w in (*words, "--target", tmp_path / "start")])
    out = capsys.readouterr().out
    assert "100 tensors of batch norms are left out: MODEL.RESNETS.NORM is GN" in out
    assert f"MODEL.WEIGHTS {tmp_path / 'start'}.pth" in out
    weights = torch.load(tmp_path / "start.pth")["model"]
    assert torch.equal(weights["res3.0.shortcut.weight"], state["layer2.0.downsample.0.weight"])
    model = build_model_quietly(load_cfg(SHAPES, ["MODEL.DEVICE", "cpu"]))
    AtomicCheckpointer(model).resume_or_load(str(tmp_path / "start.pth"), resume=False)
    own = model.backbone.bottom_up.stem.conv1.weight
    assert torch.allclose(own, state["conv1.weight"].flip(1), rtol=1e-3)  # BGR, the same scale
    with pytest.raises(UserError, match="--torchvision"):
        publish_weights.main(["--torchvision", "resnet18.pth"])

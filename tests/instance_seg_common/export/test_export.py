"""From a model by name to files, and from these to the very files that torch predicts."""

import json
import re
import shutil
import sys

import export as export_tool
import numpy as np
import predict as predict_tool
import pytest
import torch
from PIL import Image
from tiny_recurrent import build_tiny_pyramid  # noqa: F401  registers the backbone

from instance_seg_common.engine.build import build_model_quietly
from instance_seg_common.engine.setup import load_cfg
from instance_seg_common.errors import UserError
from instance_seg_common.export import Export, export_model, is_export
from instance_seg_common.export.formats import FORMATS
from instance_seg_common.meta_arch import NetworkPart
from instance_seg_common.prediction import load_predictor

NODE = "MODEL.EMBEDDING_INSTANCE_SEG"
# A network of two convolutions beneath a narrow head, which finds something in any picture.
OPTS = [
    "MODEL.DEVICE", "cpu", "MODEL.BACKBONE.NAME", "build_tiny_pyramid",
    f"{NODE}.IN_FEATURES", "['p2', 'p3']", f"{NODE}.CHANNELS", "8", f"{NODE}.HEAD_CHANNELS", "8",
    f"{NODE}.NORM", "BN", f"{NODE}.CLUSTERING", "mean_shift", f"{NODE}.BANDWIDTH", "1.5",
    f"{NODE}.MIN_CLUSTER_SIZE", "4", "INPUT.MIN_SIZE_TEST", "0",
    "TEST.LABEL_MAP_SCORE_THRESHOLD", "0.0",
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory, repository_root):
    """CONFIG:WEIGHTS of an untrained model, to be used with OPTS."""
    config = repository_root / "configs" / "Nuclei" / "embedding_R18.yaml"
    torch.manual_seed(0)
    network = build_model_quietly(load_cfg(config, OPTS))
    torch.nn.init.constant_(network.head.semantic[-1].bias[:1], 0.5)
    weights = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save({"model": network.state_dict()}, weights)
    return f"{config}:{weights}"


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """The JSON file of its export as ONNX, written by the tool."""
    folder = tmp_path_factory.mktemp("export")
    export_tool.main(["--model", model, "--output", str(folder), "--format", "onnx", *OPTS])
    return folder / "embedding_R18.json"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of three pictures of different sizes."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for number, (height, width) in enumerate([(40, 64), (72, 33), (9, 120)]):
        pixels = generator.integers(0, 60, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def copied(exported, tmp_path):
    """A copy of the export, to be spoilt."""
    shutil.copytree(exported.parent, tmp_path / "copy")
    return tmp_path / "copy" / exported.name


def files_of(folder, *arguments):
    """{name: bytes} of what tools/predict.py writes as label maps and objects."""
    save = ["--save", "label-map", "--save", "csv"]
    assert predict_tool.main([*arguments, "--output", str(folder), *save]) == 0
    found = [f for f in sorted(folder.rglob("*.*")) if f.suffix in (".png", ".tif", ".csv")]
    return {f.relative_to(folder): f.read_bytes() for f in found}


def assert_close_tables(expected, found):
    """The same rows; figures may differ in their last digits."""
    a, b = (re.split(r"[,\r\n]+", table.decode()) for table in (expected, found))
    assert len(a) == len(b)
    for x, y in zip(a, b):
        assert x == y or float(x) == pytest.approx(float(y), rel=1e-4)


def test_predict_writes_the_same_files_by_every_backend(
    model, exported, pictures, tmp_path, monkeypatch
):
    monkeypatch.setenv("INSTANCE_SEG_CACHE", str(tmp_path / "cache"))
    named = ["--model", model, str(pictures), *OPTS]
    expected = files_of(tmp_path / "torch", *named)
    assert len(expected) == 7  # a label map and a table each, and a table of all
    assert all(len(x.splitlines()) > 3 for f, x in expected.items() if f.suffix == ".csv")
    first = files_of(tmp_path / "first", *named, "--backend", "onnxruntime")
    (cached,) = (tmp_path / "cache" / "exports").glob("*/model.json")
    written = cached.stat().st_mtime_ns
    again = files_of(tmp_path / "again", *named, "--backend", "onnxruntime")
    assert cached.stat().st_mtime_ns == written
    by_file = files_of(tmp_path / "file", "--model", str(exported), str(pictures))
    assert first == again == by_file
    assert set(first) == set(expected)
    for file, content in expected.items():
        if file.suffix == ".csv":
            assert_close_tables(content, first[file])
        else:
            assert content == first[file]


def test_the_facts_are_what_another_program_needs(model, exported):
    facts = json.loads(exported.read_text())
    (part,) = facts["parts"]
    assert (facts["format"], facts["method"]) == ("onnx", "EmbeddingInstanceSeg")
    assert part["inputs"] == [{"name": "images", "dtype": "float32", "shape": [1, 3, "8*h", "8*w"]}]
    assert part["outputs"] == ["semantic", "embedding"]
    assert facts["pixel_mean"] == [12.6] * 3 and facts["pixel_std"] == [14.3] * 3
    assert facts["config"][NODE.split(".")[0]][NODE.split(".")[1]]["BANDWIDTH"] == 1.5
    assert facts["versions"]["torch"] and facts["weights"]["sha256"]
    cfg = Export(exported).cfg(["TEST.TILE_SIZE", "64"])
    assert (cfg.TEST.TILE_SIZE, cfg.TEST.LABEL_MAP_SCORE_THRESHOLD) == (64, 0.0)


def test_an_export_is_told_from_other_files(exported, repository_root, tmp_path):
    (tmp_path / "broken.json").write_text("{")
    assert is_export(str(exported))
    for other in ("weights/embedding_R18_dsb2018.json", "setup.py", tmp_path / "broken.json"):
        assert not is_export(str(repository_root / other))


def test_settings_after_the_network_can_be_changed_and_the_network_cannot(exported):
    with pytest.raises(UserError, match="holds another network .* not the network itself"):
        load_predictor(str(exported), [f"{NODE}.HEAD_CHANNELS", "16"])
    assert load_predictor(str(exported), [f"{NODE}.MIN_CLUSTER_SIZE", "9"])


def test_files_of_another_export_are_refused(copied):
    part = next(copied.parent.glob("*.onnx"))
    part.write_bytes(part.read_bytes() + b"\0")
    with pytest.raises(UserError, match="is not the file that embedding_R18.json was written with"):
        load_predictor(str(copied))
    part.unlink()
    with pytest.raises(UserError, match="keep them together"):
        load_predictor(str(copied))


def test_facts_of_another_version_are_refused(copied):
    copied.write_text(json.dumps({**json.loads(copied.read_text()), "export": 99}))
    with pytest.raises(UserError, match="version 99 .* Export the model again"):
        load_predictor(str(copied))


def test_a_backend_that_does_not_run_the_files_is_named(exported):
    with pytest.raises(UserError, match="is run by onnxruntime, not by torch"):
        load_predictor(str(exported), backend="torch")


def test_without_onnxruntime_a_sentence_says_how_to_get_it(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="pip install onnxruntime"):
        load_predictor(str(exported))


def test_without_onnxscript_a_sentence_says_how_to_get_it(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match="pip install onnx onnxscript"):
        export_model(model, format="onnx", folder=tmp_path, opts=OPTS)


def test_a_method_without_a_network_is_named(repository_root, tmp_path):
    config = repository_root / "configs" / "Nuclei" / "classical.yaml"
    with pytest.raises(UserError, match="OtsuWatershed cannot be exported"):
        export_model(str(config), format="onnx", folder=tmp_path)


class Counting(torch.nn.Module):
    """Its result is as long as a value says."""

    def forward(self, x):
        return (torch.zeros(int(x.sum())),)


@pytest.mark.parametrize("format", FORMATS)
def test_what_no_exporter_takes_is_a_sentence(format, tmp_path):
    part = NetworkPart("counting", Counting(), {"x": torch.ones(3)}, ["y"], {})
    with pytest.raises(
        UserError, match="The part counting of the network goes through no exporter"
    ):
        FORMATS[format].write(part, tmp_path / "file")

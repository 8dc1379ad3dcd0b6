"""tools/visualize.py on a data set of three images, with an untrained model."""

from pathlib import Path

import numpy as np
import pytest
import torch
import visualize
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.modeling import build_model
from PIL import Image

from instance_seg_common.data import register_coco_dataset, register_label_map_dataset
from instance_seg_common.engine.setup import load_cfg
from instance_seg_common.errors import UserError
from instance_seg_common.visualization import drawing

CONFIG = "configs/Synthetic/mask_rcnn_R18_shapes.yaml"
OPTIONS = ["MODEL.DEVICE", "cpu", "TEST.LABEL_MAP_SCORE_THRESHOLD", "0.05"]
OPTIONS += ["MODEL.ROI_HEADS.NUM_CLASSES", "1", "MODEL.RPN.POST_NMS_TOPK_TEST", "30"]
OPTIONS += ["TEST.DETECTIONS_PER_IMAGE", "10", "INPUT.MIN_SIZE_TEST", "64"]


@pytest.fixture(scope="module")
def config(repository_root):
    return str(repository_root / CONFIG)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Three images of two squares, registered under a name of this module."""
    root = tmp_path_factory.mktemp("visualize_data")
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for index in range(3):
        labels = np.zeros((64, 64), dtype=np.uint16)
        labels[4:24, 4 + index : 24 + index] = 3
        labels[34:54, 30:50] = 7
        image = np.repeat((labels[..., None] > 0) * np.uint8(150), 3, axis=2)
        Image.fromarray(labels).save(root / "labels" / f"cell{index}.png")
        Image.fromarray(image).save(root / "images" / f"cell{index}.png")
    name = "test_visualize_squares"
    register_label_map_dataset(name, root / "images", root / "labels", thing_classes=("cell",))
    return name, root


@pytest.fixture(scope="module")
def weights(config, tmp_path_factory):
    """An untrained model: the pictures need predictions, not good ones."""
    torch.manual_seed(0)
    model = build_model(load_cfg(config, OPTIONS))
    path = tmp_path_factory.mktemp("visualize_weights") / "model.pth"
    torch.save({"model": model.state_dict()}, path)
    return str(path)


@pytest.fixture(scope="module")
def model(config, weights):
    """As --model names the untrained model."""
    return f"{config}:{weights}"


def run(model, tmp_path, *arguments, options=OPTIONS):
    start = ["--model", model, "--output", str(tmp_path / "out")]
    status = visualize.main([*start, *arguments, *options])
    return status, sorted(p.name for p in (tmp_path / "out").rglob("*.*"))


def test_annotation_with_label_maps(config, dataset, tmp_path):
    name, _ = dataset
    arguments = ["--source", "annotation", "--dataset", name, "--max-images", "2"]
    status, files = run(config, tmp_path, *arguments, "--save", "label-map")
    assert status == 0 and files == ["cell0.png", "cell0.png", "cell1.png", "cell1.png"]
    labels = np.asarray(Image.open(tmp_path / "out" / "label_maps" / "cell0.png"))
    assert labels.dtype == np.uint16 and set(np.unique(labels)) == {0, 1, 2}


def test_dataloader(config, dataset, tmp_path):
    status, files = run(config, tmp_path, "--source", "dataloader", "--dataset", dataset[0])
    assert status == 0 and len(files) == 3


def test_prediction_on_a_data_set(model, dataset, tmp_path):
    arguments = ["--source", "prediction", "--dataset", dataset[0]]
    arguments += ["--internals", "--sort", "worst", "--max-images", "2"]
    status, files = run(model, tmp_path, *arguments)
    assert status == 0
    pictures = [f for f in files if f.endswith(".png")]
    assert len(pictures) == 4 and pictures[0].startswith("001_")
    assert sum(f.endswith("_internals.png") for f in pictures) == 2


def test_worst_come_first(model, dataset, tmp_path, monkeypatch):
    scores = {"cell0.png": (0.5, 0.9), "cell1.png": (0.2, 0.9), "cell2.png": (0.5, 0.1)}
    monkeypatch.setattr(
        visualize.PredictionPictures, "score", lambda self, d: scores[Path(d["file_name"]).name]
    )
    arguments = ["--source", "prediction", "--dataset", dataset[0]]
    _, files = run(model, tmp_path, *arguments, "--sort", "worst")
    assert files == ["001_cell1.png", "002_cell2.png", "003_cell0.png"]


def test_unreadable_file_does_not_stop_the_others(model, dataset, tmp_path, capsys):
    _, root = dataset
    (tmp_path / "broken.png").write_bytes(b"not an image")
    (tmp_path / "copy").mkdir()
    good = root / "images" / "cell1.png"
    (tmp_path / "copy" / "cell1.png").write_bytes(good.read_bytes())
    files = [str(tmp_path / "broken.png"), str(good), str(tmp_path / "copy" / "cell1.png")]
    arguments = ["--source", "prediction"]
    status, written = run(model, tmp_path, *arguments, "--images", *files)
    assert status == 1
    assert "broken.png cannot be read" in capsys.readouterr().err
    assert written == ["cell1.png", "cell1_2.png"]


def test_dump_of_a_run_is_a_config_file(config, dataset, weights, tmp_path):
    cfg = load_cfg(
        config, [*OPTIONS, "MODEL.WEIGHTS", weights, "DATASETS.TEST", str((dataset[0],))]
    )
    (tmp_path / "config.yaml").write_text(cfg.dump())
    arguments = ["--source", "prediction", "--max-images", "1"]
    status, files = run(str(tmp_path / "config.yaml"), tmp_path, *arguments, options=[])
    assert status == 0 and files == ["cell0.png"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--source", "annotation", "--internals"], "--internals needs --source prediction"),
        (["--source", "dataloader", "--save", "label-map"], "tools/predict.py writes"),
        (["--source", "prediction", "--save", "label-map"], "tools/predict.py writes"),
        (["--source", "annotation", "--dataset", "absent"], "no data set 'absent'"),
        (["--source", "annotation", "--max-images", "0"], "--max-images is 0"),
        (["--source", "prediction"], "No weights"),
        (["--source", "prediction", "--sort", "worst", "--images", "a.png"], "--sort needs"),
        (["--source", "annotation", "--model", "a.yaml:a.pth"], "second --model needs --source"),
        (["--source", "prediction", "--model", "a.yaml:a.pth", "--internals"], "leave out"),
    ],
)
def test_what_a_user_gets_wrong_is_a_sentence(config, tmp_path, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        run(f"{config}:", tmp_path, *arguments)


def test_absent_weights_are_a_sentence(config, tmp_path):
    with pytest.raises(UserError, match="absent.pth"):
        run(f"{config}:absent.pth", tmp_path, "--source", "prediction")


def test_several_models_in_one_picture(config, dataset, model, tmp_path):
    other = str(Path(config).with_name("classical_shapes.yaml"))
    arguments = ["--source", "prediction", "--dataset", dataset[0]]
    status, files = run(model, tmp_path, *arguments, "--max-images", "2")
    widths = [Image.open(tmp_path / "out" / file).width for file in files]
    arguments += ["--model", f"{other}:", "--model", model]
    status, files = run(model, tmp_path, *arguments, "--max-images", "2")
    assert status == 0 and files == ["cell0.png", "cell1.png"]
    # Four panels in place of three.
    assert Image.open(tmp_path / "out" / files[0]).width == pytest.approx(4 / 3 * widths[0], 0.05)


def test_several_models_on_a_folder(config, dataset, model, tmp_path):
    _, root = dataset
    other = str(Path(config).with_name("classical_shapes.yaml"))
    arguments = ["--source", "prediction", "--model", f"{other}:"]
    status, files = run(model, tmp_path, *arguments, "--images", str(root / "images"))
    assert status == 0 and files == ["cell0.png", "cell1.png", "cell2.png"]
    panel = drawing.display_scale(64, 64) * 64
    width = Image.open(tmp_path / "out" / "cell0.png").width
    assert width == 3 * panel + 2 * drawing.GAP


def test_titles_tell_models_apart():
    models = [("x", "one.pth"), ("x", "two.pth"), ("y", "one.pth")]
    assert visualize.model_titles(models) == ["x, one", "x, two", "y"]
    assert visualize.model_titles([("x", ""), ("x", "a.pth")]) == ["x", "x, a"]


@pytest.fixture
def folder(dataset, tmp_path):
    """Two images under names out of order, a file that is none, and a folder."""
    path = tmp_path / "folder"
    (path / "below").mkdir(parents=True)
    for name, index in (("b.png", 0), ("a.tif", 1)):
        Image.open(dataset[1] / "images" / f"cell{index}.png").save(path / name)
    (path / "notes.txt").write_text("no image")
    return path


def test_a_folder_without_images_is_a_sentence(model, tmp_path):
    (tmp_path / "empty").mkdir()
    arguments = ["--source", "prediction", "--images"]
    with pytest.raises(UserError, match=r"empty of --images has no image .* \(other files: 0"):
        run(model, tmp_path, *arguments, str(tmp_path / "empty"))


def test_prediction_on_a_folder(model, folder, tmp_path, capsys):
    arguments = ["--source", "prediction", "--max-images", "1", "--images"]
    status, files = run(model, tmp_path, *arguments, str(folder))
    assert status == 0 and files == ["a.png"]
    assert "|" not in capsys.readouterr().err  # no bar where nobody looks


def test_internals_of_an_unknown_method_are_refused_at_once(repository_root, tmp_path):
    config = repository_root / "configs" / "Nuclei" / "classical.yaml"
    with pytest.raises(UserError, match="cannot draw OtsuWatershed"):
        run(str(config), tmp_path, "--source", "prediction", "--internals", "--images", "a.png")


def test_keys_after_files_are_keys():
    start = ["--model", "c.yaml", "--source", "prediction", "--images"]
    args = visualize.parse_args([*start, "a.png", "B.PNG", "MODEL.DEVICE", "cpu"])
    assert args.images == ["a.png", "B.PNG"] and args.opts == ["MODEL.DEVICE", "cpu"]


def test_image_files_need_no_data_set(model, dataset, tmp_path, capsys):
    lost = "test_visualize_lost_set"
    if lost not in DatasetCatalog.list():
        register_coco_dataset(lost, tmp_path / "lost.json", tmp_path)
    image = str(dataset[1] / "images" / "cell1.png")
    arguments = ["--source", "prediction", "--images", image]
    options = [*OPTIONS, "DATASETS.TEST", str((lost,))]
    status, files = run(model, tmp_path, *arguments, options=options)
    assert status == 0 and "cell1.png" in files
    assert "lost.json" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["annotation", "dataloader", "prediction"])
def test_a_stock_set_without_files_is_a_sentence(config, tmp_path, source):
    name = f"test_visualize_stock_{source}"
    register_coco_instances(name, {}, str(tmp_path / "lost.json"), str(tmp_path))
    with pytest.raises(UserError, match="lost.json"):
        run(config, tmp_path, "--source", source, "--dataset", name)
    with pytest.raises(UserError, match="no data set 'nowhere'"):
        run(config, tmp_path, "--source", source, "--dataset", "nowhere")

"""tools/compare.py on a tiny data set, with untrained models."""

import json
import re

import compare
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from instance_seg_analysis.comparison.models import TRAINED, ComparedModel
from instance_seg_analysis.comparison.run import Comparison
from instance_seg_common.config import get_cfg_with_plugins
from instance_seg_common.data import register_label_map_dataset
from instance_seg_common.data.registration import get_dataset_dicts
from instance_seg_common.engine.setup import load_cfg, load_model_cfg
from instance_seg_common.errors import UserError
from instance_seg_common.masks import instances_from_masks

NAME = "test_compare_squares"
OPTIONS = ["MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "64", "TEST.DETECTIONS_PER_IMAGE", "10"]
OPTIONS += ["TEST.LABEL_MAP_SCORE_THRESHOLD", "0.05", "MODEL.RPN.POST_NMS_TOPK_TEST", "30"]
OPTIONS += ["MODEL.RECURRENT_INSTANCE_SEG.MAX_STEPS", "3"]
KINDS = ("mask_rcnn", "embedding", "recurrent")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Three images of one, two and three squares; the last image file is broken."""
    root = tmp_path_factory.mktemp("compare_data")
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for index in range(3):
        labels = np.zeros((64, 64), dtype=np.uint16)
        for k in range(index + 1):
            labels[4 + 20 * k : 20 + 20 * k, 8:30] = k + 1
        image = np.repeat((labels[..., None] > 0) * np.uint8(150), 3, axis=2)
        Image.fromarray(labels).save(root / "labels" / f"cell{index}.png")
        Image.fromarray(image).save(root / "images" / f"cell{index}.png")
    register_label_map_dataset(NAME, root / "images", root / "labels", thing_classes=("cell",))
    return root


@pytest.fixture(scope="module")
def models(repository_root, tmp_path_factory):
    """As --model names models of the three methods, untrained."""
    folder = tmp_path_factory.mktemp("compare_weights")
    names = []
    for kind in KINDS:
        config = str(repository_root / f"configs/Synthetic/{kind}_R18_sticks.yaml")
        torch.manual_seed(0)
        model = build_model(load_cfg(config, OPTIONS))
        names.append(f"{config}:{folder / f'{kind}.pth'}")
        torch.save({"model": model.state_dict()}, folder / f"{kind}.pth")
    return names


def arguments_of(models, folder, *options):
    named = [part for model in models for part in ("--model", model)]
    return [*named, "--dataset", NAME, "--output", str(folder), *options, *OPTIONS]


@pytest.fixture(scope="module")
def output(dataset, models, tmp_path_factory):
    """(exit status, folder) of one run, with a broken image."""
    folder = tmp_path_factory.mktemp("compare_output")
    broken = dataset / "images" / "cell2.png"
    good = broken.read_bytes()
    broken.write_bytes(good[: len(good) // 2])
    try:
        status = compare.main(arguments_of(models, folder))
    finally:
        broken.write_bytes(good)
    return status, folder


def test_all_models_and_baselines_are_measured(output):
    _, folder = output
    result = json.loads((folder / "comparison.json").read_text())
    names = [f"{kind}_R18_sticks" for kind in KINDS]
    names += ["connected components of embedding_R18_sticks", "Otsu + watershed"]
    assert [model["model"] for model in result["models"]] == names
    for model in result["models"]:
        assert 0 <= model["SBD"] <= 1 and 0 <= model["accuracy"] <= 1
        assert model["network_seconds"] + model["post_seconds"] == pytest.approx(model["seconds"])
    classical = result["models"][-1]
    assert classical["AP50"] == pytest.approx(100) and classical["accuracy"] == 1
    assert classical["parameters_million"] == 0
    assert [image["objects"] for image in result["images"]] == [1, 2]
    assert sum(b["objects"] for b in result["bins"]["size"]) == 3
    for entry in result["bins"]["crowding"]:
        assert entry["found"]["Otsu + watershed"] == entry["objects"]
        if entry["objects"]:
            assert entry["AP"]["Otsu + watershed"] > 50


def test_an_image_that_fails_is_reported_and_the_others_go_on(output):
    status, folder = output
    page = (folder / "index.html").read_text()
    assert status == 1
    failures = json.loads((folder / "comparison.json").read_text())["failures"]
    assert len(failures) == 1 and "cell2.png" in failures[0]
    assert "1 image could not be done" in page and "cell2.png" in page.split('id="failures"')[1]
    assert page.count("<article") == 2


def test_page_is_complete_and_asks_for_nothing(output):
    page = (output[1] / "index.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', page) + re.findall(r"url\(([^)]*)\)", page)
    assert len(sources) > 20
    assert {source[:5] for source in sources} <= {"data:", "#fail"}
    assert "http" not in re.sub(r"data:[^\")]*", "", page)
    assert page.count('alt="Inside mask_rcnn_R18_sticks on cell') == 2
    assert not re.findall(r"<img(?![^>]*alt=)", page)


def test_picture_for_papers(output):
    picture = Image.open(output[1] / "comparison.png")
    assert picture.width > 2000


def test_the_first_images_only_and_no_baselines(dataset, models, tmp_path):
    options = ("--max-images", "1", "--internals", "0", "--no-baselines")
    assert compare.main(arguments_of(models[:1], tmp_path, *options)) == 0
    result = json.loads((tmp_path / "comparison.json").read_text())
    assert len(result["models"]) == len(result["images"]) == 1
    assert "Inside the models" not in (tmp_path / "index.html").read_text()


def test_wrong_arguments_are_sentences(models, tmp_path):
    with pytest.raises(UserError, match="'none' names no model"):
        compare.main(arguments_of(["none"], tmp_path))
    with pytest.raises(UserError, match="--max-images is 0; use 1 or more"):
        compare.parse_args(arguments_of(models, tmp_path, "--max-images", "0"))


def test_weights_default_to_those_of_the_training(models, tmp_path):
    config = models[0].split(":")[0]
    opts = ["OUTPUT_DIR", str(tmp_path)]
    trained = tmp_path / "model_final.pth"
    assert load_model_cfg(config, opts).MODEL.WEIGHTS == load_cfg(config).MODEL.WEIGHTS
    trained.write_bytes(b"")
    assert str(trained) == load_model_cfg(config, opts).MODEL.WEIGHTS
    given = load_model_cfg(config, [*opts, "MODEL.WEIGHTS", "a.pth"])
    assert given.MODEL.WEIGHTS == "a.pth"


def test_the_page_scores_what_the_table_scores_where_the_foreground_is_given(tmp_path):
    """One prediction reaches beyond the foreground: cards and metrics leave that away alike."""
    name = "test_compare_foreground"
    for folder in ("images", "labels", "foreground"):
        (tmp_path / folder).mkdir()
    labels = np.zeros((40, 40), dtype=np.uint8)
    labels[4:14, 4:14], labels[20:30, 20:30] = 1, 2
    for folder, array in (("images", labels * 90), ("labels", labels), ("foreground", labels > 0)):
        Image.fromarray(array.astype(np.uint8)).convert("RGB" if folder == "images" else "L").save(
            tmp_path / folder / "a.png"
        )
    register_label_map_dataset(name, tmp_path / "images", tmp_path / "labels")
    record = {
        **get_dataset_dicts(name)[0],
        "foreground_file_name": str(tmp_path / "foreground" / "a.png"),
    }
    masks = torch.zeros(2, 40, 40)
    masks[0, :19, :19] = masks[1, 19:, 19:] = 1  # far beyond the objects
    instances = instances_from_masks(
        masks, torch.ones(2), torch.zeros(2), input_size=(40, 40), output_size=(40, 40)
    )

    class Fixed(torch.nn.Module):
        def forward(self, inputs):
            return [{"instances": instances} for _ in inputs]

    cfg = get_cfg_with_plugins()
    cfg.MODEL.DEVICE, cfg.TEST.FOREGROUND_GIVEN, cfg.INPUT.MIN_SIZE_TEST = "cpu", True, 0
    model = ComparedModel("fixed", cfg, Fixed(), TRAINED)
    comparison = Comparison([model], name)
    image = comparison.add(record)
    metrics = comparison.summary(model, memory=False).metrics
    assert metrics["SBD"] == pytest.approx(1) and metrics["accuracy"] == 1
    assert image.models["fixed"].scores.sbd == pytest.approx(1)
    assert image.models["fixed"].found.all()

"""Images of 1 to 5 channels through every method: trained, evaluated, drawn."""

import pytest
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog
from fourth_channel import METHODS, config_of, write_fourth_channel

from instance_seg_common.engine.chosen_images import choose_images
from instance_seg_common.engine.evaluate import evaluate
from instance_seg_common.engine.picture_run import (
    PictureWriter,
    PredictionPictures,
    draw_training_images,
)
from instance_seg_common.engine.predictor import build_predictor
from instance_seg_common.engine.setup import load_cfg
from instance_seg_common.engine.trainer import InstanceSegTrainer

CHANNELS = {1: [3], 2: [0, 3], 4: [0, 1, 2, 3], 5: [0, 1, 2, 3, 0]}


def config_file(method, folder, channels):
    """A YAML file of a small model of so many channels."""
    config = config_of(method, folder, channels)
    config["INPUT"]["CHANNELS"] = CHANNELS[channels]
    config["SOLVER"].update(MAX_ITER=2, IMS_PER_BATCH=2)
    config["TEST"].update(PICTURES=1, VALIDATION_LOSS_IMAGES=1, EVAL_PERIOD=1)
    config["INPUT"]["AUGMENTATIONS"] = [
        ["RandomRotation", {"angle": [0, 90], "sample_style": "choice"}],
        ["RandomBrightness", [0.5, 2.0]],
        ["RandomContrast", [0.7, 1.4]],
    ]
    path = folder / f"{method}_{channels}.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def load(path):
    """The config, its sets registered anew."""
    for name in ("fourth_channel_train", "fourth_channel_val"):
        if name in DatasetCatalog.list():
            DatasetCatalog.remove(name)
            MetadataCatalog.pop(name)
    return load_cfg(path, ["MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0"])


@pytest.fixture(scope="module")
def small_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fourth_channel")
    write_fourth_channel(folder, train=3, val=2)
    return folder


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_any_number_of_channels(small_set, tmp_path, method, channels):
    cfg = load(config_file(method, small_set, channels))
    cfg.OUTPUT_DIR = str(tmp_path)
    if method != "otsu_watershed":
        trainer = InstanceSegTrainer(cfg)
        trainer.resume_or_load(resume=False)
        trainer.train()
        cfg.MODEL.WEIGHTS = str(tmp_path / "model_final.pth")
    assert "segm" in evaluate(cfg)
    writer = PictureWriter(tmp_path / "pictures")
    images = choose_images(None, "fourth_channel_val")
    pictures = PredictionPictures(cfg, build_predictor(cfg), images, writer=writer)
    pictures.draw_all()
    draw_training_images(cfg, images, writer)
    assert (writer.pictures, writer.failures) == (4, 0)


def test_the_fourth_channel_is_learned(tmp_path):
    """What separates objects in the fourth channel alone is found by a model that reads it."""
    write_fourth_channel(tmp_path, train=60, val=8)
    path = tmp_path / "embedding.yaml"
    config = config_of("embedding", tmp_path)
    config["SOLVER"].update(MAX_ITER=120, BASE_LR=0.002, WARMUP_ITERS=10)
    config["TEST"].update(PICTURES=0, VALIDATION_LOSS_IMAGES=0)
    path.write_text(yaml.safe_dump(config))
    trainer = InstanceSegTrainer(load(path))
    trainer.resume_or_load(resume=False)
    assert trainer.train()["segm"]["AP"] > 60

"""Images of 1 to 5 channels through every method: trained, evaluated, drawn."""

import pytest
import yaml
from fourth_channel import METHODS, config_of, load_anew, write_fourth_channel

from instance_seg_common.engine.chosen_images import choose_images
from instance_seg_common.engine.evaluate import evaluate
from instance_seg_common.engine.picture_run import (
    PictureWriter,
    PredictionPictures,
    draw_training_images,
)
from instance_seg_common.engine.predictor import build_predictor
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


@pytest.fixture(scope="module")
def small_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fourth_channel")
    write_fourth_channel(folder, train=3, val=2)
    return folder


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_any_number_of_channels(small_set, tmp_path, method, channels):
    cfg = load_anew(config_file(method, small_set, channels))
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

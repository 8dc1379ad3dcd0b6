"""The sequence that is read of a recurrent model."""

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from instance_seg_analysis.order.objects import describe_masks
from instance_seg_analysis.order.reader import OrderReader
from instance_seg_common.data.registration import get_dataset_dicts
from instance_seg_common.engine.predictor import build_predictor, model_input
from instance_seg_common.engine.setup import load_cfg
from recurrent_instance_seg.inference import InferenceSettings, StepSequence

OPTIONS = ["MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "64", "SEED", "11"]
NODE = "MODEL.RECURRENT_INSTANCE_SEG"
OPTIONS += [f"{NODE}.MAX_STEPS", "4", f"{NODE}.STOP_THRESHOLD", "0.0"]
BLOCKS = ["f0 res5", "f1 res4", "f2 res3", "f3 res2", "f4 stem", "p5", "p4", "p3", "p2"]


@pytest.fixture(scope="module")
def config(repository_root):
    return str(repository_root / "configs" / "Synthetic" / "recurrent_R18_shapes.yaml")


@pytest.fixture(scope="module")
def weights(config, tmp_path_factory):
    """A model that finds something at every step."""
    torch.manual_seed(0)
    model = build_model(load_cfg(config, OPTIONS))
    folder = tmp_path_factory.mktemp("order_weights")
    torch.save({"model": model.state_dict()}, folder / "model.pth")
    return folder


class Script(torch.nn.Module):
    """A model whose steps find scripted masks, in place of a trained one."""

    def __init__(self, backbone, areas):
        super().__init__()
        self.backbone, self.areas = backbone, areas
        self.in_features = ["p5", "p4", "p3", "p2"]
        self.inference = InferenceSettings(
            max_steps=len(areas), stop_threshold=0.1, mask_threshold=0.5, min_area=2,
            overlap="first", score=("objectness",), all_classes=False, max_instances=None,
        )  # fmt: skip

    def run_steps(self, inputs):
        self.backbone(torch.zeros(1, 3, 64, 64))
        masks = torch.zeros(len(self.areas), 64, 64)
        for step, (top, left, bottom, right) in enumerate(self.areas):
            masks[step, top:bottom, left:right] = 0.9
        objectness = torch.full((len(masks),), 0.8)
        objectness[2], objectness[-1] = 0.2, 0.0
        classes = torch.tensor([[0.1, 0.9]]).repeat(len(masks), 1)
        return [StepSequence(masks, classes, objectness)]


def test_sequence_is_that_of_the_kept_steps(config, weights, tmp_path):
    areas = [
        (0, 40, 10, 60),  # right
        (0, 30, 10, 50),  # of which the first step keeps the half
        (20, 50, 30, 60),  # too unsure
        (30, 0, 31, 1),  # too small
        (40, 0, 60, 20),  # left and below
        (50, 50, 60, 60),  # after the end
    ]
    cfg = load_cfg(config, [*OPTIONS, "MODEL.WEIGHTS", str(weights / "model.pth")])
    script = Script(build_model(cfg).backbone.eval(), areas)
    Image.fromarray(np.zeros((64, 64, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    image = OrderReader(cfg, script, {}).read({"file_name": str(tmp_path / "a.png")})
    found, activations = image.found, image.activations
    np.testing.assert_allclose(found.centers * 64, [(50, 5), (35, 5), (10, 50)])
    np.testing.assert_allclose(found.areas * 64 * 64, [200, 100, 400])
    assert found.classes.tolist() == [1, 1, 1] and image.left_out == 2
    assert list(activations["after"]) == BLOCKS
    assert all(values.shape == (3,) for values in activations["after"].values())


def test_objects_are_those_of_the_prediction(config, weights, tiny_cfg):
    opts = [*OPTIONS, "MODEL.WEIGHTS", str(weights / "model.pth"), f"{NODE}.ALL_CLASSES", "False"]
    cfg = load_cfg(
        config, [*opts, f"{NODE}.MIN_AREA", "5", "TEST.LABEL_MAP_SCORE_THRESHOLD", "0.0"]
    )
    cfg.DATASETS.TEST = tiny_cfg.DATASETS.TEST
    reader, total = OrderReader(cfg, build_predictor(cfg), {}), 0
    for record in get_dataset_dicts(cfg.DATASETS.TEST[0])[:4]:
        found = reader.read(record).found
        item = model_input(cfg, record)
        instances = reader.model([item])[0]["instances"]
        expected = describe_masks(instances.pred_masks, instances.pred_classes)
        for ours, theirs in zip(found, expected):
            rows = [np.sort(part.reshape(len(part), -1), axis=0) for part in (ours, theirs)]
            np.testing.assert_allclose(*rows)
        total += len(found.areas)
    assert total

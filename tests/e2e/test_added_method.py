"""A method of somebody else: a package of its own, installed, and not a line changed here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from forked import run_script
from own_data import write_cells

ROOT = Path(__file__).resolve().parents[2]
SETUP = """
from setuptools import setup

setup(
    name="bright-blobs",
    version="1.0",
    py_modules=["bright_blobs"],
    entry_points={"instance_seg.methods": ["BrightBlobs = bright_blobs:add_bright_blobs_config"]},
)
"""
METHOD = '''
"""What one 1 x 1 convolution takes for an object: connected components of its foreground."""

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from scipy import ndimage
from torch import nn
from torch.nn import functional as F

from instance_seg_common.masks import instances_from_masks


def add_bright_blobs_config(cfg):
    if "BRIGHT_BLOBS" not in cfg.MODEL:
        cfg.MODEL.BRIGHT_BLOBS = CfgNode({"NUM_CLASSES": 1, "THRESHOLD": 0.5})


@META_ARCH_REGISTRY.register()
class BrightBlobs(nn.Module):
    @configurable
    def __init__(self, *, num_classes, threshold):
        super().__init__()
        self.num_classes, self.threshold = num_classes, threshold
        self.conv = nn.Conv2d(3, 1, 1)
        self.register_buffer("scale", torch.tensor(255.0), persistent=False)

    @classmethod
    def from_config(cls, cfg):
        node = cfg.MODEL.BRIGHT_BLOBS
        return {"num_classes": node.NUM_CLASSES, "threshold": node.THRESHOLD}

    @property
    def device(self):
        return self.scale.device

    def forward(self, batched_inputs):
        images = [x["image"].to(self.device) / self.scale for x in batched_inputs]
        logits = [self.conv(image[None])[0, 0] for image in images]
        if not self.training:
            return [self.predict(*pair) for pair in zip(logits, batched_inputs)]
        masks = [x["instances"].gt_masks.tensor.any(dim=0).float() for x in batched_inputs]
        losses = [
            F.binary_cross_entropy_with_logits(logit, mask.to(self.device))
            for logit, mask in zip(logits, masks)
        ]
        return {"loss_foreground": torch.stack(losses).mean()}

    def predict(self, logits, item):
        probability = logits.detach().sigmoid().cpu()
        labels, count = ndimage.label(probability.numpy() > self.threshold)
        masks = torch.from_numpy(labels)[None] == torch.arange(1, count + 1)[:, None, None]
        size = tuple(probability.shape)
        instances = instances_from_masks(
            masks, torch.ones(count), torch.zeros(count, dtype=torch.int64),
            input_size=size, output_size=(item["height"], item["width"]), min_area=4,
        )
        return {"instances": instances}
'''
CONFIG = """
_BASE_: {root}/configs/Base-InstanceSeg.yaml
MODEL: {{META_ARCHITECTURE: {architecture}, DEVICE: cpu, {node}: {{NUM_CLASSES: 1}}}}
INPUT: {{MIN_SIZE_TRAIN: [96], MIN_SIZE_TEST: 96}}
DATASETS:
  REGISTER:
    - name: added_cells
      format: label_map
      classes: [cell]
      image_dir: {folder}/cells/train/images
      label_dir: {folder}/cells/train/labels
  TRAIN: [added_cells]
  TEST: [added_cells]
DATALOADER: {{NUM_WORKERS: 0}}
SOLVER: {{IMS_PER_BATCH: 2, MAX_ITER: 40, BASE_LR: 0.3, WARMUP_ITERS: 0}}
TEST: {{EVAL_PERIOD: 0}}
OUTPUT_DIR: {folder}/{name}
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the installed package, and configs of it and of Otsu + watershed."""
    folder = tmp_path_factory.mktemp("added")
    source = folder / "source"
    source.mkdir()
    write_cells(folder)
    (source / "setup.py").write_text(SETUP)
    (source / "bright_blobs.py").write_text(METHOD)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(folder / "installed"), str(source)], check=True)
    for name, architecture, node in (
        ("blobs", "BrightBlobs", "BRIGHT_BLOBS"),
        ("otsu", "OtsuWatershed", "OTSU_WATERSHED"),
    ):
        text = CONFIG.format(
            root=ROOT, folder=folder, name=name, architecture=architecture, node=node
        )
        (folder / f"{name}.yaml").write_text(text)
    return folder


def run_tool(folder, *arguments):
    """A tool in a process of its own, with the package on its path."""
    done = run_script(*arguments, installed=[folder / "installed"])
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def trained(installed):
    """The same folder after a training, which ends with an evaluation."""
    run_tool(installed, "tools/train_net.py", "--config-file", installed / "blobs.yaml")
    return installed


def test_it_is_trained_and_evaluated(trained):
    results = json.loads((trained / "blobs" / "results.json").read_text())
    assert results["iteration"] == 40
    assert results["metrics"]["matching"]["tp50"] > 0
    assert results["metrics"]["sbd"]["SBD"] > 0.3


def test_its_predictions_are_drawn(trained):
    model = f"{trained / 'blobs.yaml'}:{trained / 'blobs' / 'model_final.pth'}"
    pictures = trained / "pictures"
    arguments = ["--model", model, "--source", "prediction", "--output", pictures]
    run_tool(trained, "tools/visualize.py", *arguments)
    assert len(list(pictures.glob("*.png"))) == 3


def test_it_is_compared_beside_the_classical_baseline(trained):
    output = trained / "comparison"
    models = ["--model", trained / "blobs.yaml", "--model", trained / "otsu.yaml"]
    text = run_tool(trained, "tools/compare.py", *models, "--output", output)
    figures = json.loads((output / "comparison.json").read_text())
    assert [(m["model"], m["architecture"]) for m in figures["models"]] == [
        ("blobs", "BrightBlobs"), ("otsu", "OtsuWatershed"),
    ]  # fmt: skip
    blobs = figures["models"][0]
    assert blobs["parameters_million"] == pytest.approx(4e-6)
    # Nothing is announced of its network: its seconds are not split.
    assert blobs["seconds"] > 0 and blobs["network_seconds"] is None
    assert "| blobs" in text and (output / "index.html").is_file()

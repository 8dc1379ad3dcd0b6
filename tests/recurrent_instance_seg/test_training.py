"""Really training: a resumed run, two processes, and two images by heart."""

import json
from pathlib import Path

import pytest
import tiny_recurrent  # noqa: F401 - registers build_tiny_pyramid
import torch
from by_heart import train_until
from detectron2.data import DatasetCatalog
from forked import run_script

from instance_seg_common.data import register_synthetic_dataset
from instance_seg_common.engine import InstanceSegTrainer
from instance_seg_common.engine.checks import check_config
from instance_seg_common.engine.setup import load_cfg
from instance_seg_common.errors import UserError

NODE = "MODEL.RECURRENT_INSTANCE_SEG."
# What a small data set of small images needs, whatever the config says.
NETWORK = {
    "MODEL.BACKBONE.NAME": "build_resnet_backbone",
    "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4"],
    "IN_FEATURES": ["res2", "res3", "res4"], "HIDDEN_CHANNELS": [32, 32, 16], "MAX_STEPS": 5,
    "LOSS_STRIDE": 1, "CLASS_WEIGHT": 0.5, "STOP_WEIGHT": 0.5, "GUIDED.TEACHER_UNTIL": 1000,
    "CURRICULUM_START": 0, "CLASS_LOSS_AFTER": 0, "STOP_LOSS_AFTER": 0,
}  # fmt: skip
# A network that trains in a moment, and schedules that move at every few iterations.
SCHEDULED = {
    **NETWORK,
    "MODEL.BACKBONE.NAME": "build_tiny_pyramid", "IN_FEATURES": ["p2", "p3"],
    "HIDDEN_CHANNELS": [8, 8], "GUIDED.TEACHER_UNTIL": 5,
    "CURRICULUM_START": 1, "CURRICULUM_LOSS": 2.0, "PATIENCE": 2,
    "CLASS_LOSS_AFTER": 2, "STOP_LOSS_AFTER": 5,
}  # fmt: skip


@pytest.fixture
def shapes_cfg(repository_root, tmp_path):
    """shapes_cfg(settings) -> the config on two images of 64 pixels with a few large shapes."""
    if "recurrent_overfit" not in DatasetCatalog.list():
        register_synthetic_dataset(
            "recurrent_overfit", kind="shapes", num_images=2, image_size=64, seed=7,
            objects=(2, 4), size=(0.3, 0.4), min_visible=0.9,
        )  # fmt: skip

    def build(settings):
        opts = [
            part
            for key, value in settings.items()
            for part in (key if key.startswith("MODEL.") else NODE + key, value)
        ]
        cfg = load_cfg(repository_root / "configs/Synthetic/recurrent_R18_shapes.yaml", opts)
        cfg.MODEL.DEVICE = "cpu"
        cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ("recurrent_overfit",)
        cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.RANDOM_FLIP = (64,), 64, "none"
        cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.WARMUP_ITERS = 2, 10
        cfg.TEST.EVAL_PERIOD, cfg.TEST.PICTURES, cfg.DATALOADER.NUM_WORKERS = 0, 0, 0
        cfg.OUTPUT_DIR = str(tmp_path)
        return cfg

    return build


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads add up gradients in any order; one thread is exact."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def reached(results):
    as_many = results["dic"]["DiC"] == 0  # steps as objects, then stop
    return results["segm"]["AP"] > 50 and results["sbd"]["SBD"] > 0.7 and as_many


def test_two_images_by_heart(shapes_cfg):
    cfg = shapes_cfg(NETWORK)
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR = 90, 0.008
    assert reached(train_until(cfg, every=15, reached=reached))


def train(cfg, resume=False, stop_after=None):
    """Final weights; ``stop_after`` iterations the run dies as by a kill."""
    torch.manual_seed(0)
    Path(cfg.OUTPUT_DIR).mkdir(exist_ok=True)
    trainer = InstanceSegTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    if stop_after is not None:
        step = trainer.run_step

        def run_step():
            if trainer.iter == stop_after:
                raise KeyboardInterrupt
            step()

        trainer.run_step = run_step
        trainer._hooks = [h for h in trainer._hooks if type(h).__name__ != "PeriodicWriter"]
    trainer.train()
    return torch.load(Path(cfg.OUTPUT_DIR) / "model_final.pth")["model"]


def test_schedules_survive_a_kill_and_no_validation_loss_moves_them(shapes_cfg, tmp_path):
    cfg = shapes_cfg(SCHEDULED)
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.CHECKPOINT_PERIOD = 7, 3
    cfg.TEST.EVAL_PERIOD, cfg.TEST.VALIDATION_LOSS_IMAGES = 3, 2
    # Without workers the seed of each sample would set the model's random state as well.
    cfg.DATALOADER.NUM_WORKERS = 1
    cfg.OUTPUT_DIR = str(tmp_path / "whole")
    expected = train(cfg)
    assert int(expected["schedule.iteration"]) == 7
    assert int(expected["schedule.objects"]) == 1 + 3  # after 2, 4 and 6 iterations
    cfg.OUTPUT_DIR = str(tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        train(cfg, stop_after=5)
    found = train(cfg, resume=True)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_two_processes_agree(tmp_path):
    script = Path(__file__).with_name("train_in_processes.py")
    done = run_script(script, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    one, other = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    for name, result in one.items():
        assert result["weights"] == other[name]["weights"], name
        assert result["schedule"] == other[name]["schedule"], name
        assert result["schedule"]["iteration"] == 4
        assert not any(other[name]["losses"]) and all(result["losses"])
        # The process without instances takes the running loss for its own.
        running = 1.0
        for loss in result["losses"]:
            running += 0.05 * ((loss + running) / 2 - running)
        assert result["schedule"]["running"] == pytest.approx(running, rel=1e-5), name


def test_a_wrong_class_count_is_a_sentence_before_training(shapes_cfg):
    with pytest.raises(UserError, match=r"MODEL\.RECURRENT_INSTANCE_SEG\.NUM_CLASSES to 4"):
        check_config(shapes_cfg({**NETWORK, "NUM_CLASSES": 3}))

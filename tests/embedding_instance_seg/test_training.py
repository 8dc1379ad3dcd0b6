"""Really training: a few images by heart, with both kinds of loss."""

import pytest
from by_heart import train_until
from detectron2.data import DatasetCatalog

from instance_seg_common.data import register_synthetic_dataset
from instance_seg_common.engine.setup import load_cfg

# A light head, on the fine grid that images of 64 pixels need.
PLAIN = ["OUTPUT_STRIDE", "2", "CHANNELS", "64", "HEAD_CHANNELS", "64", "CLASS_AGNOSTIC", "False"]
LEARNED = [*PLAIN, "CLUSTERING", "seeded"]


def reached(results):
    return results["segm"]["AP"] > 50 and results["sbd"]["SBD"] > 0.7


@pytest.mark.parametrize("options", [PLAIN, LEARNED], ids=["discriminative", "learned bandwidth"])
def test_four_images_by_heart(repository_root, tmp_path, options):
    if "embedding_overfit" not in DatasetCatalog.list():
        register_synthetic_dataset(
            "embedding_overfit", kind="shapes", num_images=4, image_size=64, seed=7
        )
    options = [f"MODEL.EMBEDDING_INSTANCE_SEG.{o}" if o.isupper() else o for o in options]
    cfg = load_cfg(repository_root / "configs/Synthetic/embedding_R18_shapes.yaml", options)
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ("embedding_overfit",)
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.RANDOM_FLIP = (64,), 64, "none"
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR = 4, 240, 0.003
    cfg.SOLVER.WARMUP_ITERS = 10
    cfg.TEST.LABEL_MAP_SCORE_THRESHOLD = 0.25
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.OUTPUT_DIR = str(tmp_path)
    assert reached(train_until(cfg, every=15, reached=reached))

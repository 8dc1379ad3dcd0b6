"""Fixtures for all tests."""

import logging
import os
from pathlib import Path

import pytest

pytest_plugins = ["small_worlds", "exports"]
ROOT = Path(__file__).resolve().parent.parent
# Whole files go to one process: what trains and what runs commands first, small files last, so that
# no process is left with a long one while the others have nothing to do.
LONG = ("e2e/", "test_train", "tools/")


def pytest_collection_modifyitems(items):
    """Files that take long first; all others as they stand."""

    def place(item):
        path = item.path.relative_to(ROOT / "tests").as_posix()
        return next((i for i, part in enumerate(LONG) if part in path), len(LONG))

    items.sort(key=place)


def _shared_data_root():
    default = ROOT.parent / "shared" / "data"
    return Path(os.environ.get("DETECTRON2_DATASETS", default)).resolve()


@pytest.fixture(scope="session")
def shared_data():
    """Folder with dsb2018/ and coco_mini/ (real images); without it these tests are skipped."""
    root = _shared_data_root()
    if not (root / "dsb2018" / "val" / "images").is_dir():
        pytest.skip(f"real images not found: no dsb2018/ below {root} (set DETECTRON2_DATASETS)")
    return root


@pytest.fixture(scope="session", autouse=True)
def _isolated_cache(tmp_path_factory):
    """Derived files of the tests never mix with those of the user; named sets find the images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(_shared_data_root()))
        patch.setenv("INSTANCE_SEG_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


# Whose loggers a tool that is called in this process sets up for itself.
LOGGING = ("detectron2", "fvcore", "instance_seg_common", "instance_seg_analysis")


@pytest.fixture(autouse=True)
def _fresh_loggers():
    """What a test or a fixture of a module did to loggers hides nothing from caplog."""
    for logger in map(logging.getLogger, LOGGING):
        logger.propagate, logger.disabled = True, False
        logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def repository_root():
    """The checkout."""
    return ROOT


TINY_SET = "tiny_shapes"


@pytest.fixture
def tiny_cfg(tmp_path):
    """Mask R-CNN of configs/Synthetic on eight 64 x 64 images, one image a step, three steps."""
    from detectron2.data import DatasetCatalog

    from instance_seg_common.data import register_synthetic_dataset
    from instance_seg_common.engine.setup import load_cfg

    if TINY_SET not in DatasetCatalog.list():
        register_synthetic_dataset(TINY_SET, kind="shapes", num_images=8, image_size=64, seed=7)
    cfg = load_cfg(ROOT / "configs" / "Synthetic" / "mask_rcnn_R18_shapes.yaml")
    cfg.MODEL.DEVICE = "cpu"
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (TINY_SET,)
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (64,), 64
    cfg.SOLVER.IMS_PER_BATCH = 1
    cfg.SOLVER.MAX_ITER = 3
    cfg.SOLVER.WARMUP_ITERS = 0
    cfg.TEST.EVAL_PERIOD = 0
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.OUTPUT_DIR = str(tmp_path / "run")
    Path(cfg.OUTPUT_DIR).mkdir()
    return cfg


@pytest.fixture
def register_variant(tiny_cfg):
    """register_variant(name, change, **metadata) -> name of the tiny set with other dicts.

    ``change`` maps the list of data set dicts to another one.
    """
    from detectron2.data import DatasetCatalog, MetadataCatalog

    def register(name, change=list, **metadata):
        if name not in DatasetCatalog.list():
            changed = change(DatasetCatalog.get(TINY_SET))
            DatasetCatalog.register(name, lambda: changed)
            classes = list(MetadataCatalog.get(TINY_SET).thing_classes)
            MetadataCatalog.get(name).set(**{"thing_classes": classes, **metadata})
        return name

    return register

"""A config, and registration of small data sets, undone after each test."""

import itertools

import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from instance_seg_common.config import add_common_config

_NUMBER = itertools.count()


@pytest.fixture
def cfg():
    """Detectron2's defaults with the common keys."""
    config = get_cfg()
    add_common_config(config)
    return config


@pytest.fixture
def register():
    """register(records, prefix, **metadata) -> name of a new data set, removed after the test."""
    names = []

    def add(records, prefix="evaluation_test", **metadata):
        name = f"{prefix}_{next(_NUMBER)}"
        DatasetCatalog.register(name, lambda: records)
        MetadataCatalog.get(name).set(**{"thing_classes": ["object"], **metadata})
        names.append(name)
        return name

    yield add
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)

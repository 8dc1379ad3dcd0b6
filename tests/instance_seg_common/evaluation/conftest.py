"""Registration of small data sets, undone after each test."""

import itertools
import sys
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

sys.path.insert(0, str(Path(__file__).parent))  # for square_sets

_NUMBER = itertools.count()


@pytest.fixture
def register():
    """register(records, **metadata) -> name of a new data set, removed after the test."""
    names = []

    def add(records, **metadata):
        name = f"evaluation_test_{next(_NUMBER)}"
        DatasetCatalog.register(name, lambda: records)
        MetadataCatalog.get(name).set(**{"thing_classes": ["object"], **metadata})
        names.append(name)
        return name

    yield add
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)

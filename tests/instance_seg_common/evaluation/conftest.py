"""Registration of small data sets, undone after each test."""

import itertools

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

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

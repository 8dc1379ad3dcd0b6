"""Figures for TensorBoard."""

from dataclasses import replace

import pytest
import torch
from tiny_embedding import settings_of

from embedding_instance_seg.grouping import Maps
from embedding_instance_seg.monitoring import cluster_statistics


def known_embedding():
    """Two instances at 0 and 4, whose pixels are 0.5 from their mean; one pixel does not count."""
    embedding = torch.tensor([[[-0.5, 0.5, 3.5, 4.5, 9.0, 50.0]]])
    ids = torch.tensor([[1, 1, 2, 2, -1, 0]])
    probabilities = torch.stack([(ids != 0).float(), (ids == 0).float()])
    return Maps(probabilities, embedding, embedding, None, None, 1), ids


def test_statistics_of_a_known_embedding():
    maps, ids = known_embedding()
    found = cluster_statistics(maps, settings_of(bandwidth=1.0, reach=1.0), ids)
    assert found == {
        "num_clusters": 3,
        "num_instances": 2,
        "distance_within": pytest.approx(0.5),
        "distance_between": pytest.approx(4),
    }


def test_slow_clusters_are_not_waited_for(monkeypatch):
    maps, ids = known_embedding()
    settings = settings_of(bandwidth=1.0, reach=1.0)
    slow = replace(settings, clustering="hdbscan")
    monkeypatch.setattr("embedding_instance_seg.grouping.hdbscan", None)  # not called
    assert cluster_statistics(maps, slow, ids) == cluster_statistics(maps, settings, ids)

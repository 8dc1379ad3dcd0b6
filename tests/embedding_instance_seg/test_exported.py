"""The exported network says what the network says, at any size."""

import pytest
import torch
from exports import farthest
from tiny_embedding import TinyPyramid, item, settings_of, tiny_head

from embedding_instance_seg.arch import EmbeddingInstanceSeg
from embedding_instance_seg.exported import EXPORT

SIZES = [(30, 44), (64, 17), (8, 8)]  # none is the one with which the network is traced


class NoCriterion(torch.nn.Module):
    """Of a model that is not trained."""

    num_classes = 2


def tiny_model(**options):
    """Untrained, with normalisation of its input, so that it must happen exactly once."""
    torch.manual_seed(0)
    model = EmbeddingInstanceSeg(
        backbone=TinyPyramid(), in_features=["p2", "p3"], head=tiny_head(**options),
        criterion=NoCriterion(), inference=settings_of(min_cluster_size=4, bandwidth=2.0),
        pixel_mean=[10.0, 20.0, 30.0], pixel_std=[50.0, 60.0, 70.0],
    ).eval()  # fmt: skip
    torch.nn.init.constant_(model.head.predict.bias[:2], 1.0)  # so that there are objects
    return model


@pytest.fixture(
    scope="module",
    params=[
        ("onnx", {"coordinates": True, "seeds": True, "stride": 1}),
        ("torch", {"position_unit": 8.0, "stride": 4}),
    ],
)
def twins(request, exported_twin):
    """A model, and one that runs by its exported network."""
    format, options = request.param
    model = tiny_model(**options)
    return model, exported_twin(model, EXPORT, format)


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_dense_maps_are_those_of_the_network(twins, size):
    batch = [item(*size, boxes=())]
    (expected, _), (found, _) = (model.network(batch) for model in twins)
    assert list(found) == list(expected)
    assert all(x.unique().numel() > 1 for x in expected.values())
    assert farthest(list(expected.values()), list(found.values())) < 1e-4


def test_a_batch_of_several_sizes_gives_the_same_instances(twins):
    batch = [item(30, 44), item(20, 61)]
    for expected, found in zip(*(model(batch) for model in twins)):
        assert len(expected["instances"]) > 0
        assert torch.equal(expected["instances"].pred_masks, found["instances"].pred_masks)


def test_test_time_augmentation_runs_on_the_exported_network(twins, monkeypatch):
    for model in twins:
        monkeypatch.setattr(model, "augmented", True)
    expected, found = (model([item(30, 44)])[0]["instances"] for model in twins)
    assert len(expected) > 0
    assert torch.equal(expected.pred_masks, found.pred_masks)


def test_the_network_has_the_inputs_that_it_reads():
    for coordinates, inputs in ((True, ["images", "sizes"]), (False, ["images"])):
        (part,) = EXPORT.parts(tiny_model(coordinates=coordinates, seeds=True))
        assert list(part.inputs) == inputs
        assert list(part.outputs) == ["semantic", "embedding", "seed", "log_bandwidth"]
        assert part.axes == {"images": {2: ("h", 8), 3: ("w", 8)}}

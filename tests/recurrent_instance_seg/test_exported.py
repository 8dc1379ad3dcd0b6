"""Exported preparation and step say what the network says, at any size."""

import pytest
import torch
from exports import farthest
from tiny_embedding import item
from tiny_recurrent import GUIDED, RIS, build_tiny

from instance_seg_common.errors import UserError
from recurrent_instance_seg.exported import EXPORT, tensors_of

SIZES = [(30, 44), (96, 65), (20, 20)]  # none is the one with which the network is traced


@pytest.fixture(scope="module", params=[("onnx", GUIDED), ("torch", {"DECODER": "rsis"})])
def twins(request, exported_twin):
    """A model whose sequences do not end, and one that runs by its exported parts."""
    format, options = request.param
    model = build_tiny(stop_bias=20.0, **options).eval()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(2.0)  # masks that differ from step to step
        model.decoder.mask.bias.fill_(3.0)  # and are not empty
    return model, exported_twin(model, EXPORT, format)


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_preparation_and_steps_are_those_of_the_network(twins, size):
    batch = [item(*size, boxes=())]
    prepared = [list(tensors_of(model.network(batch)[0]).values()) for model in twins]
    assert farthest(*prepared) < 1e-4
    expected, found = (
        [x for x in vars(model.run_steps(batch)[0]).values() if x is not None] for model in twins
    )
    assert len(expected[0]) == 3  # every step, the second and third from a state
    assert float((expected[0][0] - expected[0][2]).abs().max()) > 1e-3
    assert farthest(expected, found) < 1e-4


def test_a_batch_of_several_sizes_gives_the_same_instances(twins):
    batch = [item(30, 44), item(20, 61)]
    for expected, found in zip(*(model(batch) for model in twins)):
        assert len(expected["instances"]) > 0
        assert torch.equal(expected["instances"].pred_masks, found["instances"].pred_masks)


def test_a_decoder_that_reads_sizes_from_values_is_refused():
    with pytest.raises(UserError, match="decoder ris .* cannot be exported"):
        EXPORT.parts(build_tiny(**RIS).eval())

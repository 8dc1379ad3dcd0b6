"""Small decoders, and the features that they read."""

import pytest
import torch

from recurrent_instance_seg.decoders import GuidedDecoder, RISDecoder, RSISDecoder

PADDED = (32, 48)
SIZES = [PADDED, (21, 34)]  # the second image ends within cells of every level


@pytest.fixture
def build_rsis():
    """build_rsis(norm) -> a decoder of three levels, 16, 8 and 4 pixels a cell."""

    def build(norm=""):
        torch.manual_seed(0)
        return RSISDecoder([6, 5, 4], [5, 4, 3], 3, stride=4, norm=norm)

    return build


@pytest.fixture
def build_guided():
    """build_guided(norm) -> as build_rsis, with everything that this project adds."""

    def build(norm=""):
        torch.manual_seed(0)
        return GuidedDecoder([6, 5, 4], [5, 4, 3], 3, stride=4, norm=norm)

    return build


@pytest.fixture
def build_ris():
    """build_ris(**options) -> a decoder of two cells on one level, 4 pixels a cell."""

    def build(norm="", **options):
        torch.manual_seed(0)
        return RISDecoder(4, [5, 3], 3, stride=4, norm=norm, **options)

    return build


@pytest.fixture
def pyramid():
    """pyramid(levels=3, dtype) -> what ``prepare`` takes: features of two images, and sizes."""

    def make(levels=3, dtype=torch.float32):
        generator = torch.Generator().manual_seed(1)
        shapes = [(c, PADDED[0] // s, PADDED[1] // s) for c, s in ((6, 16), (5, 8), (4, 4))]
        features = [torch.randn(2, *s, generator=generator).to(dtype) for s in shapes[-levels:]]
        return features, SIZES, PADDED

    return make

"""The three decoders; all have the interface of :class:`parts.Decoder`."""

from .guided import GuidedDecoder
from .parts import Decoder, Prepared, Step
from .ris import RISDecoder
from .rsis import RSISDecoder

__all__ = ["Decoder", "GuidedDecoder", "Prepared", "RISDecoder", "RSISDecoder", "Step"]

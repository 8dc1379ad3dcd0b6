"""What analysis needs to know of a method, found by entry points of ``instance_seg.analysis``."""

from .base import MethodAnalysis, analysis_of

__all__ = ["MethodAnalysis", "analysis_of"]

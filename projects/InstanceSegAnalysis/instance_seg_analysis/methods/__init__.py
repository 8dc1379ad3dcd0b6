"""What analysis needs to know of a method, found by entry points of ``instance_seg.analysis``."""

from .base import (
    MethodAnalysis,
    adapt,
    analysis_of,
    check_drawable,
    compute_internals,
    internals_panel,
)

__all__ = [
    "MethodAnalysis",
    "adapt",
    "analysis_of",
    "check_drawable",
    "compute_internals",
    "internals_panel",
]

"""Analysis of the recurrent method."""

from instance_seg_analysis.internals.recurrent import draw_recurrent
from instance_seg_analysis.limits.adapters import RecurrentWay

from .base import MethodAnalysis

ANALYSIS = MethodAnalysis(
    draw_internals=draw_recurrent,
    shows="the sequence of steps, one object after the other, to the stop",
    network_parts=("internals",),
    adapter=RecurrentWay,
)

"""Analysis of the classical baseline, which has no network."""

from .base import MethodAnalysis

ANALYSIS = MethodAnalysis(network_modules=(), trained=False)

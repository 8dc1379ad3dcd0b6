"""Evaluation of instance segmentation: COCO AP, matching of label maps, SBD and count."""

from .build import build_evaluator

__all__ = ["build_evaluator"]

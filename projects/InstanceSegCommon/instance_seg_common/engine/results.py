"""What an evaluation leaves in the folder of its run."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode


def write_results(cfg: CfgNode, metrics: Mapping[str, Any], weights: str, **facts: Any) -> None:
    """Write ``OUTPUT_DIR/results.json``: the metrics of an evaluation and what they belong to.

    Args:
        cfg: ``OUTPUT_DIR``, ``DATASETS.TEST``.
        metrics: nested, as ``DefaultTrainer.test`` returns them.
        weights: the file whose weights were evaluated.
        **facts: further entries that JSON can hold.
    """
    content = {"datasets": list(cfg.DATASETS.TEST), "weights": weights, **facts}
    file = Path(cfg.OUTPUT_DIR) / "results.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    content["metrics"] = _without_nan(metrics)
    file.write_text(json.dumps(content, indent=2) + "\n")


def _without_nan(metrics):
    """JSON has no NaN: a metric that does not exist becomes null."""
    if isinstance(metrics, dict):
        return {name: _without_nan(value) for name, value in metrics.items()}
    return None if math.isnan(metrics) else float(metrics)

"""The oracle ablation: what true semantics or true centres would gain a clustering model.

It needs a model with ``predict(batched_inputs, true_semantics=..., true_centers=...)``, which takes
the truth from each input's ``instances``.
"""

import contextlib
import inspect
import io
import sys
from typing import NamedTuple

import torch
from detectron2.evaluation import COCOEvaluator
from tabulate import tabulate

from instance_seg_common.engine.validation_loss import build_validation_inputs
from instance_seg_common.errors import UserError
from instance_seg_common.evaluation.build import evaluators_for

FLAGS = ("true_semantics", "true_centers")
# (true_semantics, true_centers) of the rows, in the order of the paper's table.
ROWS = ((False, False), (False, True), (True, False), (True, True))
FIGURES = {
    "AP": ("segm", "AP"),
    "AP50": ("segm", "AP50"),
    "accuracy@0.5": ("matching", "accuracy50"),
    "SBD": ("sbd", "SBD"),
    "DiC": ("dic", "DiC"),
}


class OracleRow(NamedTuple):
    """true_semantics, true_centers: what was known; figures: {name of ``FIGURES``: float}."""

    true_semantics: bool
    true_centers: bool
    figures: dict


def check_predict(model):
    """Raise a UserError unless the model has a ``predict`` that can be told the truth.

    Args:
        model (nn.Module): any.
    """
    predict = getattr(model, "predict", None)
    known = inspect.signature(predict).parameters if callable(predict) else ()
    if not set(FLAGS) <= set(known):
        raise UserError(
            f"The oracle ablation cannot be run with MODEL.META_ARCHITECTURE "
            f"{type(model).__name__}: it has no predict(inputs, {', '.join(FLAGS)}), by which "
            "the truth takes the place of a part of it. Use a config of an embedding model."
        )


@torch.no_grad()
def ablate_oracle(cfg, model, dataset_name, max_images=None):
    """Evaluate a model with its own and with true semantics, its own and true centres.

    Each image is read once, with the test-time transforms; predictions are evaluated at the size of
    the original image, as in any evaluation.

    Args:
        cfg (CfgNode): with the keys of ``add_common_config``.
        model (nn.Module): in evaluation mode, with ``predict``.
        dataset_name (str): registered.
        max_images (int or None): use this many images, spread evenly over the set.

    Returns:
        tuple[list[OracleRow], int]: the rows of ``ROWS``, and how many images they are of. AP and
        AP50 are in percent, all others as ``evaluation.label_map`` has them.

    Raises:
        UserError: the model has no such ``predict``.

    Source: De Brabandere, Neven, Van Gool 2017, the ablation on Cityscapes (own or true semantic
    segmentation, mean shift or true centres).
    """
    check_predict(model)
    build = evaluators_for(dataset_name)
    evaluators = [build(cfg, dataset_name, None) for _ in ROWS]
    for evaluator in (e for row in evaluators for e in row):
        evaluator.reset()
    image_ids = []
    for read in build_validation_inputs(cfg, dataset_name, max_images or sys.maxsize):
        inputs = [read()]
        image_ids.append(inputs[0]["image_id"])
        for flags, row in zip(ROWS, evaluators):
            outputs = model.predict(inputs, **dict(zip(FLAGS, flags)))
            for evaluator in row:
                evaluator.process(inputs, outputs)
    rows = [OracleRow(*flags, _figures(row, image_ids)) for flags, row in zip(ROWS, evaluators)]
    return rows, len(image_ids)


def _figures(evaluators, image_ids):
    """{name: float} of ``FIGURES``; what is predicted for these images counts, and no other."""
    results = {}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints each table
        for evaluator in evaluators:
            chosen = {"img_ids": image_ids} if isinstance(evaluator, COCOEvaluator) else {}
            results.update(evaluator.evaluate(**chosen))
    return {name: float(results[group][key]) for name, (group, key) in FIGURES.items()}


def oracle_table(rows):
    """The rows as a text table.

    Args:
        rows (list[OracleRow])

    Returns:
        str
    """
    known = {False: "own", True: "true"}
    cells = [[known[r.true_semantics], known[r.true_centers], *r.figures.values()] for r in rows]
    headers = ["semantics", "centres", *FIGURES]
    formats = ("", "", ".1f", ".1f", ".3f", ".3f", ".2f")
    return tabulate(cells, headers, tablefmt="pipe", floatfmt=formats)

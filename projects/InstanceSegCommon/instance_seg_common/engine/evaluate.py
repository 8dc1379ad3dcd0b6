"""Evaluation of trained weights, with what papers report on the same data set."""

from detectron2.config import CfgNode
from detectron2.utils import comm

from ..evaluation.published import comparisons
from .checks import check_config
from .limits import evaluate_and_count
from .predictor import build_predictor
from .results import write_results
from .trainer import InstanceSegTrainer


def evaluate(cfg: CfgNode) -> "dict[str, dict[str, float]]":
    """Evaluate ``MODEL.WEIGHTS`` on ``DATASETS.TEST``, write results.json, print what compares.

    Args:
        cfg (CfgNode): ``OUTPUT_DIR`` takes the results.

    Returns:
        dict: metrics by their groups; {} on other processes than the main one.

    Raises:
        UserError: data sets, classes or weights do not fit together.
    """
    check_config(cfg, training=False)
    results, limits = evaluate_and_count(InstanceSegTrainer.test, cfg, build_predictor(cfg))
    if comm.is_main_process():
        facts = [limit._asdict() for limit in limits]
        write_results(cfg, results, cfg.MODEL.WEIGHTS, limits=facts)
        for table in comparisons(cfg.DATASETS.TEST, results):
            print(table)
    return results

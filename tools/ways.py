"""What the tools share until they name models by --model."""

import argparse
from collections import namedtuple
from pathlib import Path

from instance_seg_common.config import get_cfg_with_plugins  # noqa: F401
from instance_seg_common.engine.command_line import (  # noqa: F401
    check_at_least,
    part_opts_from_images,
    run_tool,
)
from instance_seg_common.engine.setup import (  # noqa: F401
    common_test_set,
    load_cfg,
    warn_of_choice_on_test_set,
)
from instance_seg_common.errors import UserError

DemoWay = namedtuple("DemoWay", "name config opts trained weights", defaults=("",))
# What `make demo` runs, in this order; each way adds a line. `weights` is a file to start from, for
# a way that cannot learn the task from scratch within minutes.
DEMO = [
    DemoWay("classical", "configs/Synthetic/classical_shapes.yaml", (), trained=False),
    DemoWay(
        "mask_rcnn",
        "configs/Synthetic/mask_rcnn_R18_shapes.yaml",
        ("SOLVER.MAX_ITER", "420", "SOLVER.BASE_LR", "0.002", "TEST.EVAL_PERIOD", "0"),
        trained=True,
    ),
    DemoWay(
        "embedding",
        "configs/Synthetic/embedding_R18_shapes.yaml",
        ("SOLVER.MAX_ITER", "700", "SOLVER.BASE_LR", "0.002", "TEST.EVAL_PERIOD", "0"),
        trained=True,
    ),
    DemoWay(
        "recurrent",
        "configs/Synthetic/recurrent_R18_shapes.yaml",
        ("SOLVER.MAX_ITER", "30", "SOLVER.BASE_LR", "0.0002", "TEST.EVAL_PERIOD", "0"),
        trained=True,
        weights="weights/recurrent_R18_shapes.pth",
    ),
]


def load_ways(configs, weights, opts=()):
    """The configs of several ways, each under a name of its own.

    Args:
        configs (list[str]): files, for ``load_cfg``.
        weights (list[str]): as many; "" for a way without weights.
        opts (list[str]): ``KEY VALUE`` pairs for all of them.

    Returns:
        dict[str, CfgNode]: by the config's file name without suffix, with the weights where two
        are the same.

    Raises:
        UserError: not as many weights as configs, or a config that cannot be used.
    """
    if len(configs) != len(weights):
        raise UserError(
            f"There are {len(configs)} configs and {len(weights)} weights; give as many "
            'of one as of the other, "" for a way without weights.'
        )
    ways = {}
    for config, file in zip(configs, weights):
        name = Path(config).stem
        name = f"{name} ({file})" if name in ways else name
        ways[name] = load_cfg(config, ["MODEL.WEIGHTS", file, *opts])
    return ways


def config_parser(description):
    """Arguments of every tool that takes a config.

    Args:
        description (str): the first line of the tool's help.

    Returns:
        argparse.ArgumentParser: with ``--config-file`` and trailing ``opts``.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config-file", required=True, metavar="FILE", help="a leaf of configs/")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="override config keys")
    return parser


def ways_parser(doc, default_weights=""):
    """Arguments of every tool that takes several ways.

    Args:
        doc (str): of the tool: the first line of its help, and what follows it.
        default_weights (str): what happens without ``--weights``; "" requires them.

    Returns:
        argparse.ArgumentParser: with ``--configs``, ``--weights``, ``--dataset`` and ``--opts``.
    """
    first, _, *rest = doc.splitlines()
    parser = argparse.ArgumentParser(description=first, epilog=" ".join(rest[1:]))
    parser.add_argument("--configs", nargs="+", required=True, metavar="FILE")
    parser.add_argument(
        "--weights", nargs="+", required=not default_weights, metavar="FILE",
        help='as many; "" for none' + (default_weights and f"; default: {default_weights}"),
    )  # fmt: skip
    parser.add_argument("--dataset", metavar="NAME", help="default: the first of DATASETS.TEST")
    parser.add_argument(
        "--opts", nargs="*", default=[], metavar="KEY VALUE", help="override keys of all configs"
    )
    return parser

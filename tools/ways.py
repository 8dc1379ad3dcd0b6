"""What the tools share: the ways to segment instances, their config, and errors as sentences."""

import argparse
import importlib
import logging
import sys
from collections import namedtuple
from pathlib import Path

from detectron2.config import get_cfg

from instance_seg_common.config import add_common_config
from instance_seg_common.data import register_builtin_datasets, register_from_config
from instance_seg_common.engine.machine import fit_to_machine
from instance_seg_common.errors import UserError

# The packages of the ways that are plugins, each with its function that adds config keys.
PLUGINS = {
    "embedding_instance_seg": "add_embedding_instance_seg_config",
    "recurrent_instance_seg": "add_recurrent_instance_seg_config",
}
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
# Importing these registers the baselines that come with the common package.
BASELINES = ("instance_seg_common.classical",)


def get_cfg_with_plugins():
    """Detectron2's defaults with the keys of the common package and of every plugin.

    Returns:
        CfgNode: not frozen.
    """
    cfg = get_cfg()
    add_common_config(cfg)
    for package, function in PLUGINS.items():
        getattr(importlib.import_module(package), function)(cfg)
    for module in BASELINES:
        importlib.import_module(module)
    return cfg


def load_cfg(config_file, opts=()):
    """The config of a YAML file and ``KEY VALUE`` pairs, data sets registered, fit to the machine.

    Args:
        config_file (str): a leaf of ``configs/`` or the ``config.yaml`` of a run; "" for none.
        opts (list[str]): keys and values in turn.

    Returns:
        CfgNode: not frozen.

    Raises:
        UserError: the file is absent, no YAML, or has keys or values that do not exist.
    """
    cfg = get_cfg_with_plugins()
    if config_file and not Path(config_file).is_file():
        raise UserError(f"There is no config file {config_file}.")
    try:
        if config_file:
            cfg.merge_from_file(str(config_file), allow_unsafe=False)
        cfg.merge_from_list(list(opts))
    except Exception as error:  # yaml, yacs and fvcore raise each their own
        where = f"{config_file} or the KEY VALUE pairs {list(opts)}" if opts else config_file
        raise UserError(f"The config cannot be used ({where}): {error}") from error
    register_builtin_datasets()
    register_from_config(cfg)
    return fit_to_machine(cfg)


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


def common_test_set(cfgs):
    """The first of DATASETS.TEST, which must be the same in all configs.

    Args:
        cfgs (collection[CfgNode])

    Raises:
        UserError: it is not.
    """
    datasets = {next(iter(cfg.DATASETS.TEST), "") for cfg in cfgs}
    if len(datasets) > 1:
        raise UserError(
            f"The configs test on different data sets ({', '.join(sorted(datasets))}); their "
            "objects cannot be compared. Name one with --dataset, or give configs with the same "
            "DATASETS.TEST[0]."
        )
    return datasets.pop()


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


def check_at_least(args, least_by_name):
    """Check numbers of the command line.

    Args:
        args (argparse.Namespace)
        least_by_name (dict[str, int]): by the argument's name; one that was not given is well.

    Raises:
        UserError: a number is smaller.
    """
    for name, least in least_by_name.items():
        value = getattr(args, name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} is {value}; use {least} or more.")


def part_opts_from_images(args):
    """Tell ``KEY VALUE`` pairs from the files before them, of which ``--images`` takes all.

    Args:
        args (argparse.Namespace): with ``images`` and ``opts``; changed in place.
    """
    if args.images:
        keys = get_cfg_with_plugins()
        are_keys = [x.split(".")[0] in keys and not Path(x).exists() for x in args.images]
        count = are_keys.index(True) if any(are_keys) else len(args.images)
        args.images, args.opts = args.images[:count], args.images[count:] + args.opts


def warn_of_choice_on_test_set(test_sets, dataset_name, what):
    """Log a warning if something is chosen on the data set on which it is judged.

    Args:
        test_sets (collection[str]): DATASETS.TEST.
        dataset_name (str): on which something is chosen.
        what (str): what is chosen, such as "a threshold".
    """
    if dataset_name in test_sets:
        logging.getLogger("instance_seg_common").warning(
            f"{dataset_name} is in DATASETS.TEST: {what} chosen on it flatters its figures."
        )


def run_tool(main):
    """Run a tool's main function; an error that the user can mend is one sentence, exit status 1.

    Args:
        main (callable): no arguments; its int or None is the exit status.
    """
    try:
        status = main()
    except Exception as error:
        # Data loader workers and spawned processes hand over their traceback as the message of an
        # exception of this process; the sentence comes last.
        *traceback, sentence = str(error).rsplit("UserError: ", 1)
        if not (traceback or isinstance(error, UserError)):
            raise
        print(f"error: {sentence.strip()}", file=sys.stderr)
        status = 1
    sys.exit(status)

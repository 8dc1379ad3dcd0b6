"""From what a user types to a config: files, ``KEY VALUE`` pairs, and names of models.

A model is named by ``CONFIG`` (a YAML file), ``CONFIG:WEIGHTS``, or a published name such as
``weights/embedding_R18_dsb2018``: a ``.pth`` file beside a ``.json`` that names its config.
"""

import json
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detectron2.config import CfgNode

from ..config import REMOVED_KEYS, RemovedKey, announced, get_cfg_with_plugins
from ..data import register_builtin_datasets, register_from_config
from ..errors import UserError
from .machine import fit_to_machine

logger = logging.getLogger(__name__)
_CONFIG_AND_WEIGHTS = re.compile(r"(?P<config>.+?\.ya?ml)(?::(?P<weights>.*))?$")


class NamedModel(NamedTuple):
    """name: for tables; config: a YAML file; weights: a file, "" for none, None where not said."""

    name: str
    config: str
    weights: "str | None"


def load_cfg(config_file: str, opts: Sequence[str] = ()) -> CfgNode:
    """The config of a YAML file and ``KEY VALUE`` pairs, data sets registered, fit to the machine.

    Args:
        config_file (str): a config of ``configs/`` or the ``config.yaml`` of a run; "" for none.
        opts (list[str]): keys and values in turn.

    Returns:
        CfgNode: not frozen.

    Raises:
        UserError: the file is absent, no YAML, or has keys or values that do not exist.
    """
    cfg = get_cfg_with_plugins()
    if config_file and not Path(config_file).is_file():
        raise UserError(f"There is no config file {config_file}.")
    removed = {
        key: rule for rules in announced(REMOVED_KEYS).values() for key, rule in rules.items()
    }
    try:
        if config_file:
            loaded = CfgNode(cfg.load_yaml_with_base(str(config_file), allow_unsafe=False))
            without_removed_keys(loaded, removed, str(config_file))
            cfg.merge_from_other_cfg(loaded)
        check_pairs(opts, removed)
        cfg.merge_from_list(list(opts))
    except UserError:
        raise
    except Exception as error:  # yaml, yacs and fvcore raise each their own
        where = f"{config_file} or the KEY VALUE pairs {list(opts)}" if opts else config_file
        raise UserError(f"The config cannot be used ({where}): {error}") from error
    register_builtin_datasets()
    register_from_config(cfg)
    return fit_to_machine(cfg)


def without_removed_keys(loaded: CfgNode, removed: Mapping[str, RemovedKey], where: str) -> None:
    """Take keys of earlier versions out of a config; those that had another value are an error.

    A ``config.yaml`` that a run has saved holds every key of its time, most at their defaults.

    Args:
        loaded (CfgNode): of a YAML file; changed in place.
        removed (dict[str, RemovedKey]): by the dotted key.
        where (str): the file.

    Raises:
        UserError: keys that changed something; what became of each.
    """
    missed, ignored = [], []
    for key, rule in removed.items():
        *path, name = key.split(".")
        node: Any = loaded
        for part in path:
            node = node.get(part, {}) if isinstance(node, Mapping) else {}
        if not isinstance(node, Mapping) or name not in node:
            continue
        (ignored if node[name] == rule.default else missed).append(key)
        del node[name]
    if missed:
        sentences = " ".join(f"{key}: {removed[key].sentence}" for key in missed)
        raise UserError(
            f"{where} has keys of an earlier version. {sentences} CHANGELOG.md lists all changes."
        )
    if ignored:
        logger.info("%s: keys of an earlier version at their defaults: %s", where, len(ignored))


def check_pairs(opts: Sequence[str], removed: Mapping[str, RemovedKey]) -> None:
    """Raise a UserError if a ``KEY VALUE`` pair has a key of an earlier version."""
    for key in opts[::2]:
        if key in removed:
            raise UserError(f"{key} is a key of an earlier version: {removed[key].sentence}")


def parse_model(text: str) -> NamedModel:
    """What a ``--model`` names.

    Args:
        text (str): ``CONFIG``, ``CONFIG:WEIGHTS`` or a published name.

    Returns:
        NamedModel

    Raises:
        UserError: it is none of these.
    """
    match = _CONFIG_AND_WEIGHTS.match(text)
    if match:
        return NamedModel(Path(match["config"]).stem, match["config"], match["weights"])
    stem = text.removesuffix(".pth").removesuffix(".json")
    weights, facts = Path(f"{stem}.pth"), Path(f"{stem}.json")
    if not (weights.is_file() and facts.is_file()):
        raise UserError(
            f"{text!r} names no model: there is no {weights} with a {facts.name} beside it. Write "
            "CONFIG.yaml, CONFIG.yaml:WEIGHTS.pth, or a published name such as "
            "weights/embedding_R18_dsb2018."
        )
    config = json.loads(facts.read_text()).get("config")
    if not config:
        raise UserError(f"{facts} has no entry config: write the model as CONFIG.yaml:{weights}.")
    # Configs are named from the root of the project, of which weights/ is a folder.
    here = weights.resolve().parent.parent / config
    return NamedModel(weights.stem, config if Path(config).is_file() else str(here), str(weights))


def load_model_cfg(text: str, opts: Sequence[str] = ()) -> CfgNode:
    """The config of one model, ``MODEL.WEIGHTS`` set.

    Args:
        text (str): of :func:`parse_model`. Without weights, what training with this config left in
            its ``OUTPUT_DIR`` is taken, else the config's own ``MODEL.WEIGHTS``.
        opts (list[str]): ``KEY VALUE`` pairs.

    Returns:
        CfgNode: not frozen.

    Raises:
        UserError: no such model, or a config that cannot be used.
    """
    return _cfg_of(parse_model(text), opts)


def load_models(texts: Sequence[str], opts: Sequence[str] = ()) -> "dict[str, CfgNode]":
    """The configs of several models, each under a name of its own.

    Args:
        texts (list[str]): of :func:`parse_model`.
        opts (list[str]): ``KEY VALUE`` pairs for all of them.

    Returns:
        dict[str, CfgNode]: by the name of the config or of the published model; with the weights
        where two are the same.

    Raises:
        UserError: no such model, or a config that cannot be used.
    """
    models = {}
    for model in map(parse_model, texts):
        cfg = _cfg_of(model, opts)
        name = f"{model.name} ({cfg.MODEL.WEIGHTS})" if model.name in models else model.name
        models[name] = cfg
    return models


def _cfg_of(model: NamedModel, opts: Sequence[str]) -> CfgNode:
    cfg = load_cfg(model.config, opts)
    trained = Path(cfg.OUTPUT_DIR) / "model_final.pth"
    if model.weights is not None:
        cfg.MODEL.WEIGHTS = model.weights
    elif trained.is_file() and "MODEL.WEIGHTS" not in opts:
        cfg.MODEL.WEIGHTS = str(trained)
    return cfg


def common_test_set(cfgs: Collection[CfgNode]) -> str:
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


def warn_of_choice_on_test_set(test_sets: Collection[str], dataset_name: str, what: str) -> None:
    """Log a warning if something is chosen on the data set on which it is judged.

    Args:
        test_sets (collection[str]): DATASETS.TEST.
        dataset_name (str): on which something is chosen.
        what (str): what is chosen, such as "a threshold".
    """
    if dataset_name in test_sets:
        logging.getLogger("instance_seg_common").warning(
            "%s is in DATASETS.TEST: %s chosen on it flatters its figures.", dataset_name, what
        )

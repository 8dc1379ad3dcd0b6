"""From what a user types to a config: files, ``KEY VALUE`` pairs, and names of models.

A model is named by ``CONFIG`` (a YAML file), ``CONFIG:WEIGHTS``, or a published name such as
``weights/embedding_R18_dsb2018``: a ``.pth`` file beside a ``.json`` that names its config.
"""

import ast
import json
import logging
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

from detectron2.config import CfgNode

from ..config import REMOVED_KEYS, announced, get_cfg_with_plugins
from ..data import register_builtin_datasets, register_from_config
from ..data.pixel_limit import set_pixel_limit
from ..errors import RemovedKey, UserError
from .machine import fit_to_machine

logger = logging.getLogger(__name__)
_CONFIG_AND_WEIGHTS = re.compile(r"(?P<config>.+?\.ya?ml)(?::(?P<weights>.*))?$")


class NamedModel(NamedTuple):
    """name: for tables; config: a YAML file; weights: a file, "" for none, None where not said."""

    name: str
    config: str
    weights: Optional[str]


def load_cfg(
    config_file: Union[str, Path],
    opts: Sequence[str] = (),
    *,
    fit: bool = True,
    content: "Optional[Mapping[str, Any]]" = None,
) -> CfgNode:
    """The config of a YAML file and ``KEY VALUE`` pairs, data sets registered, fit to the machine.

    Args:
        config_file: a config of ``configs/`` or the ``config.yaml`` of a run; "" for none.
        opts: keys and values in turn.
        fit: False: for another machine, which may have the GPU that this one lacks.
        content: of the config, where the file is no YAML that holds it.

    Returns:
        Not frozen.

    Raises:
        UserError: the file is absent, no YAML, or has keys or values that do not exist.
    """
    cfg = get_cfg_with_plugins()
    if config_file and not Path(config_file).is_file():
        raise UserError(f"There is no config file {config_file}.")
    removed = {key: rule for keys in announced(REMOVED_KEYS).values() for key, rule in keys.items()}
    refuse_removed_keys([key for key in opts[::2] if key in removed], removed, "The command line")
    try:
        if config_file:
            cfg.merge_from_other_cfg(_read_config(cfg, str(config_file), removed, content=content))
        cfg.merge_from_list(list(opts))
    except UserError:
        raise
    except Exception as error:  # yaml, yacs and fvcore raise each their own
        where = f"{config_file} or the KEY VALUE pairs {list(opts)}" if opts else config_file
        raise UserError(f"The config cannot be used ({where}): {error}") from error
    set_pixel_limit(cfg.INPUT.MAX_PIXELS)
    register_builtin_datasets()
    in_file = "DATASETS.REGISTER" not in opts[::2]
    register_from_config(cfg, config_file if in_file else "")
    return fit_to_machine(cfg) if fit else cfg


def _read_config(cfg, config_file, removed, *, content):
    """A YAML file with its bases, or the content, without keys of earlier versions."""
    if content is None:
        content = cfg.load_yaml_with_base(config_file, allow_unsafe=False)
    loaded = CfgNode(content)
    if loaded.get("VERSION", cfg.VERSION) != cfg.VERSION:
        raise UserError(
            f"{config_file} has VERSION {loaded.VERSION}; configs of Detectron2 have {cfg.VERSION}."
        )
    without_removed_keys(loaded, removed, config_file)
    return loaded


def without_removed_keys(loaded: CfgNode, removed: Mapping[str, RemovedKey], where: str) -> None:
    """Take keys of earlier versions out of a config; those that changed something are an error.

    A ``config.yaml`` that a run has saved holds every key of its time.

    Args:
        loaded: of a YAML file; changed in place.
        removed: by the dotted key.
        where: the file.

    Raises:
        UserError: keys that changed something; what became of each.
    """
    present, with_effect = [], []
    for key, rule in removed.items():
        node = _node_of(loaded, key)
        if node is not None:
            present.append(key)
            if not _is_same(node.pop(key.rpartition(".")[2]), rule.without_effect):
                with_effect.append(key)
    refuse_removed_keys(with_effect, removed, where)
    if present:
        logger.info(
            "%s has %d keys of an earlier version, all at values without effect: %s.",
            where,
            len(present),
            ", ".join(present[:5]) + (" ..." if len(present) > 5 else ""),
        )


def _node_of(loaded, key) -> Optional[CfgNode]:
    """The node that holds a dotted key; None if the key is absent."""
    *path, name = key.split(".")
    node = loaded
    for part in path:
        node = node.get(part)
        if not isinstance(node, Mapping):
            return None
    return node if name in node else None


def _is_same(value: Any, expected: Any) -> bool:
    """Whether a value of a YAML file is another: it may be text there, and tuples are lists."""
    if isinstance(value, str) and not isinstance(expected, str):
        try:
            value = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            return False
    sequences = (list, tuple)
    if isinstance(value, sequences) and isinstance(expected, sequences):
        return list(value) == list(expected)
    return value == expected


def refuse_removed_keys(keys: Sequence[str], removed: Mapping[str, RemovedKey], where: str) -> None:
    """Raise a sentence on keys of an earlier version.

    Args:
        keys: dotted; none is fine.
        removed: what became of each.
        where: they stand, for the beginning of the sentence.

    Raises:
        UserError: there are keys.
    """
    if keys:
        sentences = " ".join(f"{key}: {removed[key].sentence}" for key in keys)
        raise UserError(
            f"{where} has keys of an earlier version. {sentences} CHANGELOG.md lists all changes."
        )


def parse_model(text: str) -> NamedModel:
    """What a ``--model`` names.

    Args:
        text: ``CONFIG``, ``CONFIG:WEIGHTS`` or a published name.

    Raises:
        UserError: it is none of these.
    """
    match = _CONFIG_AND_WEIGHTS.match(text)
    if not match:
        return _published_model(text)
    config = Path(match["config"])
    # Every run has a file of this name; its folder says which run it is.
    name = config.resolve().parent.name if config.name == "config.yaml" else config.stem
    return NamedModel(name, match["config"], match["weights"])


def _published_model(text):
    stem = text.removesuffix(".pth").removesuffix(".json")
    weights, facts = Path(f"{stem}.pth"), Path(f"{stem}.json")
    if not (weights.is_file() and facts.is_file()):
        raise UserError(
            f"{text!r} names no model: there is no {weights} with a {facts.name} beside it. Write "
            "CONFIG.yaml, CONFIG.yaml:WEIGHTS.pth, or a published name such as "
            "weights/embedding_R18_dsb2018."
        )
    try:
        config = json.loads(facts.read_text()).get("config")
    except (ValueError, AttributeError) as error:
        raise UserError(f"{facts} cannot be read as facts of a model: {error}.") from error
    if not config:
        raise UserError(f"{facts} has no entry config: write the model as CONFIG.yaml:{weights}.")
    # Configs are named from the root of the project, of which weights/ is a folder.
    beside = weights.resolve().parent.parent / config
    return NamedModel(weights.stem, str(beside) if beside.is_file() else config, str(weights))


def load_model_cfg(text: str, opts: Sequence[str] = (), *, fit: bool = True) -> CfgNode:
    """The config of one model, ``MODEL.WEIGHTS`` set.

    Args:
        text: of :func:`parse_model`. Without weights, what training with this config left in its
            ``OUTPUT_DIR`` is taken, else the config's own ``MODEL.WEIGHTS``.
        opts: ``KEY VALUE`` pairs.
        fit: of :func:`load_cfg`.

    Returns:
        Not frozen.

    Raises:
        UserError: no such model, a config that cannot be used, or weights given twice.
    """
    return _cfg_of(parse_model(text), opts, fit=fit)


def load_models(texts: Sequence[str], opts: Sequence[str] = ()) -> "dict[str, CfgNode]":
    """The configs of several models, each under a name of its own.

    Args:
        texts: of :func:`parse_model`.
        opts: ``KEY VALUE`` pairs for all of them.

    Returns:
        By the name of the config or of the published model; where several have the same name, with
        their weights.

    Raises:
        UserError: no such model, a config that cannot be used, or the same model twice.
    """
    named = [(model.name, _cfg_of(model, opts)) for model in map(parse_model, texts)]
    count = Counter(name for name, _ in named)
    models = {}
    for name, cfg in named:
        full = name if count[name] == 1 else f"{name} ({cfg.MODEL.WEIGHTS or 'no weights'})"
        if full in models:
            raise UserError(
                f"Two models are called {full}; name each one once: {', '.join(texts)}."
            )
        models[full] = cfg
    return models


def _cfg_of(model, opts, *, fit=True):
    cfg = load_cfg(model.config, opts, fit=fit)
    given = "MODEL.WEIGHTS" in opts[::2]
    if given and model.weights is not None:
        raise UserError(
            f"The weights of {model.name} are given twice: {model.weights or 'none'} with --model, "
            f"{cfg.MODEL.WEIGHTS or 'none'} as MODEL.WEIGHTS. Leave one of them out."
        )
    trained = Path(cfg.OUTPUT_DIR) / "model_final.pth"
    if model.weights is not None:
        cfg.MODEL.WEIGHTS = model.weights
    elif trained.is_file() and not given:
        cfg.MODEL.WEIGHTS = str(trained)
    return cfg


def common_test_set(cfgs: Collection[CfgNode]) -> str:
    """The first of DATASETS.TEST, which must be the same in all configs.

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
    """Log a warning if something is chosen on the data set on which it is evaluated.

    Args:
        test_sets: DATASETS.TEST.
        dataset_name: on which something is chosen.
        what: what is chosen, such as "a threshold".
    """
    if dataset_name in test_sets:
        logging.getLogger("instance_seg_common").warning(
            "%s is in DATASETS.TEST: %s chosen on it flatters its figures.", dataset_name, what
        )

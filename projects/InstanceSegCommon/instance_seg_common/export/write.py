"""From a trained model to files: a JSON file, and one for each part of its network."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode

from ..data.cache import atomic_path, sha256_of
from ..engine.chosen_images import classes_of
from ..engine.predictor import build_predictor
from ..engine.setup import load_model_cfg, parse_model
from ..engine.versions import versions_of
from ..errors import UserError
from ..meta_arch import NetworkPart
from .facts import VERSION, config_content, fingerprint, method_export, part_facts
from .formats import FORMATS

CPU = ("MODEL.DEVICE", "cpu")


def export_model(
    model: str, *, format: str, folder: "str | Path", opts: Sequence[str] = ()
) -> Path:
    """Export the network of a trained model.

    Args:
        model: see ``engine.setup.parse_model``.
        format: of ``formats.FORMATS``.
        folder: made if absent; gets ``NAME.json`` and a file for each part.
        opts: ``KEY VALUE`` pairs.

    Returns:
        Of the JSON file.

    Raises:
        UserError: no such model, or one that cannot be exported.
    """
    cfg = load_model_cfg(model, [*opts, *CPU])
    return write_export(cfg, Path(folder) / f"{parse_model(model).name}.json", format=format)


def write_export(cfg: CfgNode, path: Path, *, format: str) -> Path:
    """Export the network of a config's model.

    Args:
        cfg: ``MODEL.DEVICE`` cpu; with ``MODEL.WEIGHTS``.
        path: of the JSON file; those of the parts lie beside it.
        format: of ``formats.FORMATS``.

    Returns:
        ``path``.

    Raises:
        UserError: weights that do not fit, or a network that cannot be exported.
    """
    method, chosen = method_export(cfg), FORMATS[format]
    if path.exists() and "export" not in json.loads(path.read_text()):
        raise UserError(f"{path} is there and is no export; name another folder with --output.")
    network, classes = build_predictor(cfg), classes_of(cfg)
    facts: dict[str, Any] = {
        "export": VERSION,
        "format": format,
        "method": cfg.MODEL.META_ARCHITECTURE,
        "class_names": list(classes.names),
        "category_ids": list(classes.category_ids),
        "pixel_mean": list(cfg.MODEL.PIXEL_MEAN),
        "pixel_std": list(cfg.MODEL.PIXEL_STD),
        "score_threshold": cfg.TEST.LABEL_MAP_SCORE_THRESHOLD,
        "parts": [_write_part(part, path, format) for part in method.parts(network)],
        "weights": {"file": cfg.MODEL.WEIGHTS, "sha256": sha256_of(cfg.MODEL.WEIGHTS)},
        "network_sha256": fingerprint(network),
        "versions": versions_of(("instance-seg-three-ways", "detectron2", *chosen.packages)),
        "config": config_content(cfg),
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n")
    return path


def _write_part(part: NetworkPart, path: Path, format: str) -> "dict[str, Any]":
    chosen = FORMATS[format]
    file = path.with_name(f"{path.stem}.{part.name}{chosen.suffix}")
    with atomic_path(file) as temporary, torch.no_grad():
        chosen.write(part, temporary)
    return part_facts(part, file=file.name, sha256=sha256_of(file))

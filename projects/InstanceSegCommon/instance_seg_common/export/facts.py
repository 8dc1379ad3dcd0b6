"""What the JSON file beside exported parts says."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import yaml
from detectron2.config import CfgNode
from torch import nn

from ..config import announced
from ..errors import UserError
from ..meta_arch import NetworkExport, NetworkPart

EXPORTS = "instance_seg.exports"
VERSION = 1
# What decides on results; the rest of a config is about training, data sets and the machine.
DECISIVE = ("MODEL", "INPUT", "TEST")


def method_export(cfg: CfgNode) -> NetworkExport:
    """How the network of a config's method is exported.

    Args:
        cfg: its META_ARCHITECTURE decides.

    Raises:
        UserError: the method announces nothing.
    """
    known = announced(EXPORTS)
    architecture = cfg.MODEL.META_ARCHITECTURE
    if architecture not in known:
        raise UserError(
            f"{architecture} cannot be exported: its package announces no {EXPORTS}. Models of "
            f"{', '.join(known) or 'no installed method'} can; if one is missing here, install "
            "this project again."
        )
    return known[architecture]


def config_content(cfg: CfgNode) -> "dict[str, Any]":
    """The part of a config that decides on results, in plain types; without weights and device."""
    everything = yaml.safe_load(cfg.dump())
    content = {name: everything[name] for name in (*DECISIVE, "VERSION")}
    for key in ("WEIGHTS", "DEVICE"):
        content["MODEL"].pop(key)
    return content


def fingerprint(model: nn.Module) -> str:
    """Of the names and shapes of a model's weights: sha256, hexadecimal."""
    shapes = [(name, list(x.shape)) for name, x in sorted(model.state_dict().items())]
    return hashlib.sha256(json.dumps(shapes).encode()).hexdigest()


def part_facts(part: NetworkPart, *, file: str, sha256: str) -> "dict[str, Any]":
    """What is said of a part: its file, inputs with their shapes, and outputs.

    Args:
        part: that was exported.
        file: without its folder.
        sha256: of the file.
    """
    inputs = [
        {"name": name, "dtype": str(x.dtype).rpartition(".")[2], "shape": _shape(part, name)}
        for name, x in part.inputs.items()
    ]
    return {
        "name": part.name,
        "file": file,
        "sha256": sha256,
        "inputs": inputs,
        "outputs": list(part.outputs),
    }


def _shape(part: NetworkPart, name: str) -> "Sequence[int | str]":
    """Sizes; of a dimension of any size in words, such as "32*h"."""
    shape: list[Any] = list(part.inputs[name].shape)
    for dimension, (symbol, multiple) in part.axes.get(name, {}).items():
        shape[dimension] = symbol if multiple == 1 else f"{multiple}*{symbol}"
    return shape

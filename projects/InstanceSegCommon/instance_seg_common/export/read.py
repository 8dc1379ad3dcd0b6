"""From the files of an export to a model that runs by them."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from torch import nn

from ..data.cache import cache_root, sha256_of
from ..engine.build import build_model_quietly
from ..engine.chosen_images import Classes
from ..engine.setup import load_cfg
from ..engine.versions import versions_of
from ..errors import UserError
from ..meta_arch import Runner
from .facts import VERSION, config_content, fingerprint, method_export
from .formats import FORMATS
from .write import write_export


def is_export(model: str) -> bool:
    """Whether what a user calls a model is the JSON file of an export."""
    path = Path(model)
    if path.suffix != ".json" or not path.is_file():
        return False
    try:
        return "export" in json.loads(path.read_text())
    except ValueError:
        return False


class Export:
    """Files of an export.

    Attributes:
        path: of the JSON file.
        facts: what it says.
    """

    def __init__(self, path: "str | Path") -> None:
        """Read the JSON file of an export.

        Raises:
            UserError: it is of another version of this project, or of an unknown format.
        """
        self.path = Path(path)
        self.facts: dict[str, Any] = json.loads(self.path.read_text())
        version, known = self.facts["export"], self.facts.get("format") in FORMATS
        if version != VERSION or not known:
            raise UserError(
                f"{self.path} is an export of version {version} in the format "
                f"{self.facts.get('format')}; this project reads version {VERSION} in "
                f"{', '.join(FORMATS)}. Export the model again."
            )

    @property
    def backend(self) -> str:
        """What runs the parts."""
        return FORMATS[self.facts["format"]].backend

    @property
    def classes(self) -> Classes:
        """Of the data set that the config named."""
        return Classes(tuple(self.facts["class_names"]), tuple(self.facts["category_ids"]))

    def cfg(self, opts: Sequence[str] = ()) -> CfgNode:
        """The config of the model, for the CPU; ``MODEL.WEIGHTS`` is the JSON file.

        Args:
            opts: ``KEY VALUE`` pairs.

        Raises:
            UserError: keys or values that do not exist.
        """
        fixed = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", str(self.path)]
        return load_cfg(self.path, [*opts, *fixed], content=self.facts["config"])

    def build(self, cfg: CfgNode) -> nn.Module:
        """The model in evaluation mode, its network the exported parts.

        Args:
            cfg: of :meth:`cfg`, or that of the exported model; ``MODEL.DEVICE`` cpu.

        Raises:
            UserError: the config asks for another network, or files are missing or others.
        """
        method = method_export(cfg)
        model = build_model_quietly(cfg.clone())
        asked = (cfg.MODEL.META_ARCHITECTURE, fingerprint(model))
        if asked != (self.facts["method"], self.facts["network_sha256"]):
            raise UserError(
                f"{self.path} holds another network ({self.facts['method']}) than the config asks "
                f"for ({cfg.MODEL.META_ARCHITECTURE}): KEY VALUE pairs can change what comes "
                "before and after an exported network, not the network itself. Export the model "
                "again."
            )
        method.attach(model.eval(), self.runners())
        return model.eval()  # also what was attached

    def runners(self) -> "dict[str, Runner]":
        """What runs the parts, by their names, on as many threads as torch has now.

        Raises:
            UserError: files are missing or others, or a package is not installed.
        """
        return {part["name"]: self._runner(part) for part in self.facts["parts"]}

    def _runner(self, part: "dict[str, Any]") -> Runner:
        file = self.path.with_name(part["file"])
        if not file.is_file():
            raise UserError(
                f"There is no {file}, which {self.path.name} names: keep them together."
            )
        if sha256_of(file) != part["sha256"]:
            raise UserError(
                f"{file} is not the file that {self.path.name} was written with, but one of "
                "another export. Export the model again."
            )
        names = [one["name"] for one in part["inputs"]]
        return FORMATS[self.facts["format"]].load(file, names)


def cached_export(cfg: CfgNode, backend: str) -> Export:
    """The export of a config's model for a backend, written at first use into the cache.

    Args:
        cfg: with ``MODEL.WEIGHTS``, ``MODEL.DEVICE`` cpu.
        backend: of ``formats.BACKENDS``.

    Raises:
        UserError: see ``write.write_export``.
    """
    format, chosen = next(pair for pair in FORMATS.items() if pair[1].backend == backend)
    content = config_content(cfg)["MODEL"]
    versions = versions_of(chosen.packages)
    key = json.dumps([VERSION, content, sha256_of(cfg.MODEL.WEIGHTS), versions], sort_keys=True)
    folder = cache_root() / "exports" / hashlib.sha256(key.encode()).hexdigest()[:16]
    path = folder / "model.json"
    if not path.is_file():
        write_export(cfg, path, format=format)
    return Export(path)

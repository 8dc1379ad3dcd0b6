"""The formats of exported parts: how each is written, and what runs it."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..meta_arch import NetworkPart, Runner


@dataclass(frozen=True)
class Format:
    """How parts become files, and run.

    Attributes:
        suffix: of the files.
        backend: what runs them, as a user names it.
        packages: whose versions decide on the files.
        write: a part into a file.
        load: from a file and the names of the part's inputs to what runs it.
    """

    suffix: str
    backend: str
    packages: "tuple[str, ...]"
    write: "Callable[[NetworkPart, Path], None]"
    load: "Callable[[Path, Sequence[str]], Runner]"


class _Flat(nn.Module):
    """A part with all tensors in one argument, whatever signature its module has."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, tensors: "tuple[Tensor, ...]") -> "tuple[Tensor, ...]":
        return tuple(self.module(*tensors))


def _traced(part: NetworkPart) -> Any:
    """The program of a part, for any size of its axes, by ``torch.export``."""
    # One symbol stands for one size in all inputs that share it.
    symbols = {
        symbol: torch.export.Dim(symbol, min=1)
        for axes in part.axes.values()
        for symbol, _ in axes.values()
    }

    def sizes(name: str) -> "dict[int, Any]":
        axes = part.axes.get(name, {})
        return {d: symbols[s] if k == 1 else k * symbols[s] for d, (s, k) in axes.items()}

    tensors = tuple(part.inputs.values())
    shapes = (tuple(sizes(name) for name in part.inputs),)
    return torch.export.export(
        _Flat(part.module).eval(), (tensors,), dynamic_shapes=shapes, strict=False
    )


@contextmanager
def _in_sentences(part: NetworkPart) -> "Iterator[None]":
    """Quiet exporters, whose failures name the part."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    except UserError:
        raise
    except Exception as error:  # torch raises a class of its own at every step of the way
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise UserError(
            f"The part {part.name} of the network goes through no exporter of torch "
            f"{torch.__version__} ({reason[:300]}). Exporters know shapes, not values: what "
            "decides by values, such as a number of objects, does not pass. Run this model with "
            "torch."
        ) from error
    finally:
        logger.setLevel(level)


def _write_torch(part: NetworkPart, path: Path) -> None:
    with _in_sentences(part):
        torch.export.save(_traced(part), path)


def _load_torch(path: Path, names: "Sequence[str]") -> Runner:
    # The guards refuse an image of one cell, which tracing has not seen, and which comes out right.
    module = torch.export.load(path).module(check_guards=False)
    return lambda *tensors: module(tensors)


def _write_onnx(part: NetworkPart, path: Path) -> None:
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"Writing ONNX needs onnx and onnxscript ({error}): pip install onnx onnxscript."
        ) from error
    with _in_sentences(part):
        program = torch.onnx.export(
            _traced(part), dynamo=True, verbose=False,
            input_names=list(part.inputs), output_names=list(part.outputs),
        )  # fmt: skip
        assert program is not None  # with dynamo and without a file it is returned
        program.save(path)


def _load_onnx(path: Path, names: "Sequence[str]") -> Runner:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"{path} runs with onnxruntime ({error}): pip install onnxruntime."
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    read = {one.name for one in session.get_inputs()}

    def run(*tensors: Tensor) -> "list[Tensor]":
        arrays = {n: x.detach().numpy() for n, x in zip(names, tensors) if n in read}
        return [torch.from_numpy(found) for found in session.run(None, arrays)]

    return run


FORMATS = {
    "onnx": Format(
        ".onnx", "onnxruntime", ("torch", "onnx", "onnxscript"), _write_onnx, _load_onnx
    ),
    "torch": Format(".pt2", "torch", ("torch",), _write_torch, _load_torch),
}
BACKENDS = tuple(sorted({one.backend for one in FORMATS.values()}))

"""The ways in which people save a model."""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from zoo.elsewhere import on_gpu


@contextmanager
def quiet() -> Iterator[None]:
    """torch announces the end of TorchScript and of its quantization at every call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def save(model: nn.Module, example: tuple[Tensor, ...], way: str) -> bytes:
    """Saves a model.

    `train_` in front of a way means that the model is in training mode, `_on_gpu` after it that
    it was on a GPU.
    """
    with quiet():
        archive = _WAYS[way.removeprefix("train_").removesuffix("_on_gpu")](model, example)
    return on_gpu(archive) if way.endswith("_on_gpu") else archive


def _script(model: nn.Module, example: tuple[Tensor, ...]) -> torch.jit.ScriptModule:  # noqa: ARG001 - one signature for all ways
    return torch.jit.script(model)


def _trace(model: nn.Module, example: tuple[Tensor, ...]) -> torch.jit.ScriptModule:
    # strict=False lets a traced model return a dict; check_trace would refuse random models.
    return torch.jit.trace(model, example, check_trace=False, strict=False)


def _jit(convert: Callable[..., Any]) -> Callable[..., bytes]:
    def write(model: nn.Module, example: tuple[Tensor, ...]) -> bytes:
        file = io.BytesIO()
        torch.jit.save(convert(model, example), file)
        return file.getvalue()

    return write


def _export(model: nn.Module, example: tuple[Tensor, ...], *, dynamic: bool) -> bytes:
    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} if tensor.dim() else None for tensor in example)
    program = torch.export.export(model, example, dynamic_shapes=shapes if dynamic else None)
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


def _pickle(content: Callable[[nn.Module], object]) -> Callable[..., bytes]:
    def write(model: nn.Module, example: tuple[Tensor, ...]) -> bytes:  # noqa: ARG001 - one signature for all ways
        file = io.BytesIO()
        torch.save(content(model), file)
        return file.getvalue()

    return write


def _truncated(model: nn.Module, example: tuple[Tensor, ...]) -> bytes:
    content = _WAYS["scripted"](model, example)
    return content[: len(content) // 2]


def _truncated_export(model: nn.Module, example: tuple[Tensor, ...]) -> bytes:
    content = _WAYS["exported"](model, example)
    return content[: len(content) // 2]


_WAYS: dict[str, Callable[..., bytes]] = {
    "scripted": _jit(_script),
    "traced": _jit(_trace),
    "frozen": _jit(lambda m, e: torch.jit.freeze(_script(m, e))),
    "frozen_trace": _jit(lambda m, e: torch.jit.freeze(_trace(m, e))),
    "optimized": _jit(lambda m, e: torch.jit.optimize_for_inference(_script(m, e))),
    "exported": lambda m, e: _export(m, e, dynamic=True),
    "exported_static": lambda m, e: _export(m, e, dynamic=False),
    "state_dict": _pickle(lambda m: m.state_dict()),
    "pickled": _pickle(lambda m: m),
    "truncated": _truncated,
    "truncated_export": _truncated_export,
}

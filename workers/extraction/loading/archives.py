"""Opening model archives. Only ever called in the confined child: an archive is a program."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import torch
from torch import nn

from service.contract.archives import ArchiveError, check_archive
from service.contract.failures import FailureCode
from workers.extraction.loading.exported_programs import load_exported
from workers.extraction.loading.script_programs import make_ready, remapped
from workers.extraction.refusals import NO_REASON, Refusal, gist, inherent, printable, refuse
from workers.protocol.errors import JobError, is_out_of_memory
from workers.protocol.requests import Device

_METHODS = 8  # named, of those that are there instead of forward
# In what torch says of code: the place in its compiler, or the one in the code.
_COMPILING = re.compile(r"/jit/frontend/|<--- HERE")
_OBJECTS = "__torch__.torch.classes."


@dataclass(frozen=True)
class Loaded:
    """A model that has been opened.

    Attributes:
        model: In evaluation mode, ready for `discover`.
        warnings: What a reader of its figures must know, each as `code: sentence`.
    """

    model: nn.Module
    warnings: tuple[str, ...] = ()


def load_model(file: BinaryIO, device: Device = "cpu") -> nn.Module:
    """Load an archive as `open_model` does, for whoever needs none of its warnings."""
    return open_model(file, device).model


def open_model(file: BinaryIO, device: Device = "cpu") -> Loaded:
    """Load a TorchScript or torch.export archive, in evaluation mode.

    A program may name the device it was made on; it is made to name the one it is to run on.

    Args:
        file: The archive, positioned at its start. Which kind it is, its content says.
        device: Where to.

    Raises:
        JobError: `not_a_model` if torch cannot read the archive, `unsafe_archive` if no exporter
            writes such a one.
    """
    try:
        exported = check_archive(file) == "torch_export"
    except ArchiveError as error:
        raise JobError(
            FailureCode(error.code),
            error.message,
            hint=error.hint,
            detail={"code": Refusal.LOAD_FAILED},
        ) from error
    file.seek(0)
    try:
        return _load_exported(file, device) if exported else _load_script(file, device)
    except JobError:
        raise
    except Exception as error:  # torch documents no exception types for a damaged archive
        if is_out_of_memory(error):
            raise  # the archive is as good as any other
        raise _unreadable(error, "torch.export" if exported else "TorchScript") from error


def _load_exported(file: BinaryIO, device: Device) -> Loaded:
    program, named = load_exported(file, device)
    others = {name for name in named if torch.device(name).type != device}
    return Loaded(program, tuple(remapped(others, device)))


def _load_script(file: BinaryIO, device: Device) -> Loaded:
    model = _read_script(file, "cpu")
    if device != "cpu":
        if is_bound_to_cpu(model):
            raise refuse(
                Refusal.LOAD_FAILED,
                "The model holds weights that are packed for a CPU, as quantized models do.",
            )
        file.seek(0)
        # Loaded once more, not moved: constants in a model's code are not moved with it.
        model = _read_script(file, device)
    return Loaded(model, make_ready(model, device))


def is_bound_to_cpu(model: torch.jit.ScriptModule) -> bool:
    """Return whether a model holds objects that the kernels of a CPU made, such as packed weights.

    Loading such a one to a GPU ends the process (torch 2.11).
    """
    return _OBJECTS in str(model.inlined_graph)


def _read_script(file: BinaryIO, device: Device) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        # torch announces the end of TorchScript at every call.
        warnings.filterwarnings("ignore", r"`torch\.jit\.load`", DeprecationWarning)
        model: torch.jit.ScriptModule = torch.jit.load(  # type: ignore[no-untyped-call]  # torch annotates it in part
            file, map_location=device
        )
    methods = cast("Any", model)._c._method_names()  # noqa: SLF001 - torch lists them nowhere else
    if "forward" not in methods:
        raise _without_forward(methods)
    return model.eval()


def _without_forward(methods: Sequence[str]) -> JobError:
    shown = ", ".join(f"`{printable(name, 40)}`" for name in methods[:_METHODS])
    instead = f"its methods are {shown}" if methods else "it has no method at all"
    return refuse(
        Refusal.LOAD_FAILED,
        f"The archive has no method `forward`, which is what is run: {instead}.",
        hint="Save a module whose forward calls what is meant, and returns the logits.",
    )


def _unreadable(error: Exception, kind: str) -> JobError:
    first_sentence = str(error).split(". ", 1)[0] if "PytorchStreamReader" in str(error) else None
    reason = first_sentence or gist(error)
    if _COMPILING.search(str(error)):
        said = "" if reason == NO_REASON else f": {reason}"
        reason = f"its program cannot be compiled{said}"
    return refuse(
        inherent(reason) or Refusal.LOAD_FAILED,
        f"torch could not load the file as a {kind} archive: {reason}",
        exception=type(error).__name__,
    )

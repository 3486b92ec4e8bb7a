"""Opening model archives. Only ever called in the confined child: an archive is a program."""

import warnings
from typing import BinaryIO, Literal

import torch
from torch import nn
from torch.export.passes import move_to_device_pass

from service.failures import FailureCode
from service.models.archives import ArchiveError, check_archive
from workers.errors import JobError, is_out_of_memory
from workers.extraction.refusals import Refusal, gist, refuse

Device = Literal["cpu", "cuda"]

_OBJECTS = "__torch__.torch.classes."


def load_model(file: BinaryIO, device: Device = "cpu") -> nn.Module:
    """Loads a TorchScript or torch.export archive, in evaluation mode.

    Args:
        file: The archive, positioned at its start. Which kind it is, its content says.
        device: Where to.

    Returns:
        The model, ready for `discover`.

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
        return _load_exported(file, device) if exported else _load_model(file, device)
    except JobError:
        raise
    except Exception as error:  # torch documents no exception types for a damaged archive
        if is_out_of_memory(error):
            raise  # the archive is as good as any other
        raise _unreadable(error, "torch.export" if exported else "TorchScript") from error


def _load_model(file: BinaryIO, device: Device) -> torch.jit.ScriptModule:
    model = _load_script(file, "cpu")
    if device == "cpu":
        return model
    if is_bound_to_cpu(model):
        raise refuse(
            Refusal.LOAD_FAILED,
            "The model holds weights that are packed for a CPU, as quantized models do.",
        )
    file.seek(0)
    # Loaded once more, not moved: constants in a model's code are not moved with it.
    return _load_script(file, device)


def is_bound_to_cpu(model: torch.jit.ScriptModule) -> bool:
    """Whether a model holds objects that the kernels of a CPU made, such as packed weights.

    Loading such a one to a GPU ends the process (torch 2.11).
    """
    return _OBJECTS in str(model.inlined_graph)


def _load_script(file: BinaryIO, device: Device) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        # torch announces the end of TorchScript at every call.
        warnings.filterwarnings("ignore", r"`torch\.jit\.load`", DeprecationWarning)
        model: torch.jit.ScriptModule = torch.jit.load(  # type: ignore[no-untyped-call]  # torch annotates it in part
            file, map_location=device
        )
    return model.eval()


def _load_exported(file: BinaryIO, device: Device) -> nn.Module:
    program = torch.export.load(file)
    if device != "cpu":
        program = move_to_device_pass(program, device)
    # Exported programs have no modes: whether dropout drops was settled when they were exported.
    return program.module()


def _unreadable(error: Exception, kind: str) -> JobError:
    first_sentence = str(error).split(". ", 1)[0] if "PytorchStreamReader" in str(error) else None
    reason = first_sentence or gist(error)
    return refuse(
        Refusal.LOAD_FAILED,
        f"torch could not load the file as a {kind} archive: {reason}",
        exception=type(error).__name__,
    )

"""Opening TorchScript archives. Only ever called in the confined child: an archive is a program."""

import warnings
from typing import BinaryIO

import torch

from workers.errors import JobError
from workers.extraction.refusals import Refusal, last_line, refuse


def load_torchscript(file: BinaryIO) -> torch.jit.ScriptModule:
    """Loads a TorchScript archive to the CPU, in evaluation mode.

    Args:
        file: The archive, positioned at its start.

    Returns:
        The module, ready for `discover`.

    Raises:
        JobError: `not_a_model` if torch cannot read the archive.
    """
    try:
        with warnings.catch_warnings():
            # torch announces the end of TorchScript at every call.
            warnings.filterwarnings("ignore", r"`torch\.jit\.load`", DeprecationWarning)
            model: torch.jit.ScriptModule = torch.jit.load(  # type: ignore[no-untyped-call]  # torch annotates it in part
                file, map_location="cpu"
            )
        return model.eval()
    except Exception as error:  # torch documents no exception types for a damaged archive
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> JobError:
    first_sentence = str(error).split(". ", 1)[0] if "PytorchStreamReader" in str(error) else None
    reason = first_sentence or last_line(error)
    return refuse(
        Refusal.LOAD_FAILED,
        f"torch could not load the file as a TorchScript archive: {reason}",
        exception=type(error).__name__,
    )

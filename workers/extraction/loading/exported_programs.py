"""Loading an exported program, on whichever device it was made."""

import io
import logging
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import torch
from torch import nn
from torch.export.passes import move_to_device_pass

from workers.extraction.loading.appended import with_entries
from workers.protocol.requests import Device

# In graphs and tables of weights every tensor says where it was. torch puts it there, or fails.
_TELLING = re.compile(r"[^/]+/(models|data/(weights|constants))/[^/]+\.json")
_DEVICE = re.compile(rb'\{\s*"type":\s*"(?!cpu"|meta")(\w+)",\s*"index":\s*(\d+|null)\s*\}')
_ON_CPU = b'{"type": "cpu", "index": null}'
_SAMPLES = re.compile(r"[^/]+/data/sample_inputs/[^/]+")


def load_exported(file: BinaryIO, device: Device) -> tuple[nn.Module, frozenset[str]]:
    """Load an archive of `torch.export.save`.

    Args:
        file: The archive, which has passed its check.
        device: Where to.

    Returns:
        The program, and the devices it named that this machine may not have: all but the CPU.

    Raises:
        Exception: torch cannot read it; it documents no types.
    """
    readable, named = _on_cpu(file)
    with _telling_why():
        program = torch.export.load(readable)
    if device != "cpu":
        program = move_to_device_pass(program, device)
    # Exported programs have no modes: whether dropout drops was settled when they were exported.
    return program.module(), named


def _on_cpu(file: BinaryIO) -> tuple[BinaryIO, frozenset[str]]:
    """Return the archive with every tensor on the CPU; itself, where that is so already."""
    named: set[str] = set()
    changed: dict[str, bytes] = {}
    with zipfile.ZipFile(file) as archive:
        for name in filter(_TELLING.fullmatch, archive.namelist()):
            content = archive.read(name)
            if found := {_spelled(*match) for match in _DEVICE.findall(content)}:
                named |= found
                changed[name] = _DEVICE.sub(_ON_CPU, content)
        if changed:
            for name in filter(_SAMPLES.fullmatch, archive.namelist()):
                changed[name] = _samples_on_cpu(archive.read(name))
    file.seek(0)
    return (with_entries(file, changed) if changed else file), frozenset(named)


def _spelled(kind: bytes, index: bytes) -> str:
    return kind.decode() if index == b"null" else f"{kind.decode()}:{index.decode()}"


def _samples_on_cpu(content: bytes) -> bytes:
    moved = io.BytesIO()
    torch.save(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True), moved)
    return moved.getvalue()


class _Logged(logging.Handler):
    """Keeps the error that was logged last."""

    error: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.error = record.exc_info[1] if record.exc_info else self.error


@contextmanager
def _telling_why() -> Iterator[None]:
    """Raise what torch only logs: its own error refers to the log."""
    logger, logged = logging.getLogger("torch.export"), _Logged()
    logger.addHandler(logged)
    try:
        yield
    except RuntimeError as error:
        reason: BaseException = logged.error or error
        while reason.__cause__ is not None:
            reason = reason.__cause__
        raise reason from error
    finally:
        logger.removeHandler(logged)

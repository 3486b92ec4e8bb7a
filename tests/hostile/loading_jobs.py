"""Loading an archive in a child, with the check that comes before it and without."""

import io
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import torch
from pydantic import JsonValue

from workers.child.warmup import warm_up_torch_export
from workers.extraction import load_model
from workers.protocol.result import JobResult


def nothing(*_: object) -> JobResult:
    """The next job."""
    return JobResult({})


def load(_arguments: Mapping[str, JsonValue], files: Sequence[BinaryIO], *_: object) -> JobResult:
    """As the product does."""
    load_model(files[0])
    return JobResult({})


def load_unchecked(
    arguments: Mapping[str, JsonValue], files: Sequence[BinaryIO], *_: object
) -> JobResult:
    """As torch does, and run what it gives."""
    archive = io.BytesIO(files[0].read())
    loaded = (
        torch.export.load(archive).module() if arguments["exported"] else torch.jit.load(archive)
    )
    loaded(torch.rand(4, 64))
    return JobResult({"ran": True})


JOBS = {"nothing": nothing, "load": load, "load_unchecked": load_unchecked}

rehearse = warm_up_torch_export

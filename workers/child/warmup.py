"""What jobs use, used once under one thread, so that a child starts fast and opens nothing."""

import codecs
import importlib
import io
import traceback
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy.ma
import numpy.random  # noqa: F401 - numpy imports both when first used, which a child cannot
import torch
from torch import nn
from torch.export.passes import move_to_device_pass


class _Small(nn.Module):
    """A little of everything that image models are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3)
        self.normalization = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.normalization(self.convolution(x)).relu().mean((2, 3))
        logits: torch.Tensor = self.head(features)
        return logits


_ENCODINGS = (
    *("ascii", "latin-1", "cp437", "unicode_escape", "raw_unicode_escape", "utf-8", "utf-8-sig"),
    *("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"),
)
"""Those that file formats and messages use; Python imports each when it is first needed."""

SMALL_SHAPE = (3, 32, 32)
"""Of one input to the small model."""


def small_archive() -> bytes:
    """Return a TorchScript archive of a small image classifier."""
    archive = io.BytesIO()
    with torch.inference_mode():
        traced = torch.jit.trace(_Small().eval(), torch.zeros(2, *SMALL_SHAPE))  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.jit.save(traced, archive)
    return archive.getvalue()


def warm_up() -> None:
    """Load lazily loaded libraries and choose their kernels, without ever starting a thread.

    An operation on two threads before a fork deadlocks the child in libgomp, so the count is set
    to one here; each child sets its own.
    """
    for encoding in _ENCODINGS:
        codecs.lookup(encoding)
    torch.set_num_threads(1)
    images = torch.zeros(2, *SMALL_SHAPE)
    with torch.inference_mode():
        loaded = torch.jit.load(io.BytesIO(small_archive()))  # type: ignore[no-untyped-call]  # torch leaves it untyped
        for _ in range(3):  # the profiling executor specializes on the second call
            loaded(images)
        torch.linalg.eigh(torch.eye(8, dtype=torch.float64))
    try:
        torch.jit.load(io.BytesIO(b"not an archive"))  # type: ignore[no-untyped-call]  # as above
    except RuntimeError:
        # Formatting a traceback opens source files; their lines are now in memory.
        traceback.format_exc()


def warm_up_torch_export() -> None:
    """Import what reads exported programs: two seconds and 1,300 modules that few models need."""
    # Of what symbolic shapes need, sympy itself imports the rest when it is first used.
    importlib.import_module("sympy.tensor.tensor")
    archive = io.BytesIO()
    program = torch.export.export(nn.Linear(2, 2).eval(), (torch.zeros(2, 2),))
    move_to_device_pass(program, "cpu")
    torch.export.save(program, archive)
    archive.seek(0)
    with torch.inference_mode():
        torch.export.load(archive).module()(torch.zeros(2, 2))


WARM_UPS: Mapping[str, Callable[[], None]] = MappingProxyType(
    {"torch_export": warm_up_torch_export}
)
"""Warm-ups for the jobs that name them, by name."""

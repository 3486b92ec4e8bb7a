"""What jobs use, used once under one thread, so that a child starts fast and opens nothing."""

import io
import traceback

import torch
from torch import nn


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


def warm_up() -> None:
    """Load lazily loaded libraries and choose their kernels, without ever starting a thread.

    An operation on two threads before a fork deadlocks the child in libgomp, so the count is set
    to one here; each child sets its own.
    """
    torch.set_num_threads(1)
    images = torch.zeros(2, 3, 32, 32)
    with torch.inference_mode():
        archive = io.BytesIO()
        torch.jit.save(torch.jit.trace(_Small().eval(), images), archive)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        archive.seek(0)
        loaded = torch.jit.load(archive)  # type: ignore[no-untyped-call]  # as above
        for _ in range(3):  # the profiling executor specializes on the second call
            loaded(images)
        torch.linalg.eigh(torch.eye(8, dtype=torch.float64))
    try:
        torch.jit.load(io.BytesIO(b"not an archive"))  # type: ignore[no-untyped-call]  # as above
    except RuntimeError:
        # Formatting a traceback opens source files; their lines are now in memory.
        traceback.format_exc()

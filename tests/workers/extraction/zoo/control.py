"""Programs rather than graphs, and models bound to a batch size or to their batch."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo.case import (
    Accepted,
    Batch,
    Case,
    Headed,
    Truth,
    cases,
    images,
    linear,
    of_head,
    of_layer,
    vectors,
)
from zoo.convolutional import ResNet


class Iterated(Headed):
    """Repeats a layer as often as the input says."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(16, 16)

    def features(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        for _ in range(1 + int(x.abs().max().item()) % 4):
            h = torch.tanh(self.step(h)) + h
        return h


class UntilSmall(Iterated):
    """Iterates until the features hardly change, or ten times."""

    def features(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        change = 1.0
        steps = 0
        while change > 1e-2 and steps < 10:
            new = 0.5 * torch.tanh(self.step(h))
            change = float((new - h).abs().max())
            h = new
            steps += 1
        return h


class Deciding(Headed):
    """Takes one of two ways for the whole batch, to the same head."""

    def __init__(self) -> None:
        super().__init__()
        self.bright, self.dark = nn.Linear(12, 12), nn.Linear(12, 12)

    def features(self, x: Tensor) -> Tensor:
        if bool(x.mean() > 0.0):
            return self.trunk(self.bright(x))
        return self.trunk(self.dark(x))


class ModeDependent(Headed):
    """Does something else in training."""

    def features(self, x: Tensor) -> Tensor:
        if self.training:
            x = x + torch.randn_like(x)
        return functional.dropout(self.trunk(x), 0.5, self.training)


class Normed(Headed):
    """Batch norm and dropout, which training mode changes."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3)
        )


class Forked(Headed):
    """Two parts of Φ computed by tasks of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(12, 8), nn.Linear(12, 8)

    def features(self, x: Tensor) -> Tensor:
        return torch.cat([torch.relu(self.left(x)), torch.tanh(self.right(x))], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        left = torch.jit.fork(self.left, x)
        right = torch.jit.fork(self.right, x)
        h = torch.cat([torch.relu(torch.jit.wait(left)), torch.tanh(torch.jit.wait(right))], dim=1)
        return self.head(h)


class ForkedHead(Headed):
    """The head itself runs in a task."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.jit.wait(torch.jit.fork(self.head, self.trunk(x)))


class Exporting(Headed):
    """Offers its features as a method of the archive."""

    @torch.jit.export
    def features(self, x: Tensor) -> Tensor:
        return self.trunk(x)


class Written(Headed):
    """Fills a tensor piece by piece before the head reads it."""

    def features(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.shape[0], 16)
        h[:, :8] = self.trunk(x)[:, :8]
        h[:, 8:] = x[:, :8].relu()
        return h


class Reused(Headed):
    """Overwrites Φ after the head has read it."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        u = self.head(h)
        h.zero_()
        return u


class Unsorted(Headed):
    """Sorts the samples, as packed sequences ask for, and puts the outputs back."""

    def forward(self, x: Tensor) -> Tensor:
        order = x[:, 0].argsort()
        return self.head(self.trunk(x[order]))[order.argsort()]


class Crops(Headed):
    """The mean over a sample's views, which go through the head as a larger batch."""

    def forward(self, x: Tensor) -> Tensor:
        rows, crops = x.shape[0], x.shape[1]
        return self.head(self.trunk(x.reshape(rows * crops, 12))).view(rows, crops, 5).mean(1)


class Mirrored(Headed):
    """A second view of every sample, after all first ones."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(torch.cat([x, -x]))).view(2, x.shape[0], 5).mean(0)


def views(rows: int) -> Batch:
    return (torch.randn(rows, 3, 12),)


def of_crops(model: nn.Module, batch: Batch) -> Truth:
    return linear(model.trunk(*batch).mean(1), model.head.weight, model.head.bias)


def of_mirrored(model: nn.Module, batch: Batch) -> Truth:
    phi = (model.trunk(batch[0]) + model.trunk(-batch[0])) / 2
    return linear(phi, model.head.weight, model.head.bias)


class Baked(Headed):
    """Reshapes to the batch size it was traced with."""

    def features(self, x: Tensor) -> Tensor:
        return self.trunk(x).reshape(int(x.shape[0]), 4, 4).transpose(1, 2).reshape(-1, 16)

    def forward(self, x: Tensor) -> Tensor:
        rows = int(x.shape[0])
        h = self.trunk(x).reshape(rows, 4, 4).transpose(1, 2).reshape(rows, 16)
        return self.head(h)


class BakedState(Headed):
    """A recurrence whose first state has the size of the traced batch."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(12, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.cell(x, torch.zeros(int(x.shape[0]), 16))


class Whitening(Headed):
    """Subtracts the batch's mean from the features."""

    def features(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return h - h.mean(dim=0)


class BatchAttention(Headed):
    """Samples look at each other."""

    def features(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return torch.softmax(h @ h.t(), dim=1) @ h


def control() -> Iterator[Case]:
    yield from _programs()
    yield from _batches()


def _programs() -> Iterator[Case]:
    family, found = "programs", Accepted(of_head)
    yield from cases(family, Exporting, vectors, found, "scripted")
    mixed = replace(found, later=("batch_dependent",))
    for model in (Iterated, UntilSmall, Deciding):
        yield from cases(family, model, vectors, mixed, "scripted")
    for model in (Forked, ForkedHead):
        yield from cases(family, model, vectors, found, "scripted", "frozen")
    yield from cases(family, Reused, vectors, found)
    for model in (Written, Unsorted):
        yield from cases(family, model, vectors, found, "scripted", "frozen")
    for model, inputs, truth in ((Crops, views, of_crops), (Mirrored, vectors, of_mirrored)):
        yield from cases("views", model, inputs, Accepted(truth), "scripted", "traced")
    ways = ("scripted", "frozen", "train_scripted")
    for model in (ModeDependent, Normed):
        yield from cases("training_mode", model, vectors, found, *ways)
    yield from cases("training_mode", ResNet, images, Accepted(of_layer("fc")), "train_scripted")


def _batches() -> Iterator[Case]:
    fixed = Accepted(of_head, warnings=("fixed_batch",))
    for rows in (1, 5, 7, 16, 100):
        yield from cases(
            "fixed_batch", Baked, vectors, fixed, "traced", name=f"baked{rows}", saved_rows=rows
        )
    # Frozen, its first state becomes a constant that torch overwrites: each run would differ.
    yield from cases("fixed_batch", BakedState, vectors, fixed, "traced", saved_rows=6)
    fixed = replace(fixed, truth=of_layer("fc"))
    for rows in (7, 16):
        yield from cases(
            "fixed_batch",
            ResNet,
            images,
            fixed,
            "exported_static",
            name=f"static{rows}",
            saved_rows=rows,
        )
    mixed = Accepted(of_head, warnings=("batch_dependent",))
    for model in (Whitening, BatchAttention):
        yield from cases("batch_dependent", model, vectors, mixed, "scripted", "traced")

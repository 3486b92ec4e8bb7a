"""What tests of the numerics share: samples of networks, dealt out to folds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workers.diagnostics import (
    Answer,
    Coordinates,
    Diagnosis,
    Model,
    Moments,
    Performance,
    Rows,
    Task,
    Tolerances,
    diagnose,
)
from workers.diagnostics.folds import Folds
from workers.diagnostics.output_space import OutputSpace


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Independent standard normal numbers, float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def measured(outputs: Tensor, targets: Tensor, task: Task) -> Performance:
    """How good outputs are as they are, as logits or values."""
    return Answer.of_logits(task, outputs.shape[1]).measure(outputs.double(), targets)


def told(logits: Tensor) -> Tensor:
    """The class that logits tell for each row."""
    classes = Answer.of_logits("classification", logits.shape[1]).decide(logits.double())
    assert classes is not None
    return classes


def kept_rows(features: Tensor, logits: Tensor, labels: Tensor | None) -> Rows:
    """Rows of a classifier that returns its logits."""
    return Rows(features, told(logits), labels, decide=told)


def diagnosed(
    folds: Sequence[Moments],
    *,
    task: Task,
    basis: Tensor | None = None,
    space: OutputSpace | None = None,
    output_tolerance: float = 1e-6,
    verdict_tolerance: float = 1e-3,
    rows: Rows | None = None,
    performances: Sequence[Performance] = (),
    positions: float = 1,
    **known: Any,
) -> Diagnosis:
    """`diagnose`, with what it groups said one by one."""
    return diagnose(
        folds,
        Model(task, **known),
        coordinates=Coordinates(basis, space),
        rows=rows,
        performances=performances,
        positions=positions,
        tolerances=Tolerances(output_tolerance, verdict_tolerance),
    )


@dataclass(frozen=True)
class Sample:
    """Features, outputs and class indicators; weights where rows do not count alike."""

    phi: Tensor
    outputs: Tensor
    targets: Tensor
    weights: Tensor | None = None

    def primal(self, folds: int = 10, **options: Any) -> Diagnosis:
        """The figures from sums over features, however many these are."""
        return diagnosed(self.folds(folds), task="classification", **options)

    def folds(self, count: int = 10) -> list[Moments]:
        """Sums over disjoint sets of samples, dealt as `Folds` deals them."""
        generator = torch.Generator().manual_seed(0)
        n = len(self.phi)
        fold_of = (torch.arange(n) % count)[torch.randperm(n, generator=generator)]
        return [self.sums(fold_of == fold) for fold in range(count)]

    def sums(self, rows: Tensor | slice) -> Moments:
        """Sums over some of the samples."""
        widths = (each.shape[1] for each in (self.phi, self.outputs, self.targets))
        moments = Moments.zeros(*widths)
        weights = None if self.weights is None else self.weights[rows]
        moments.update(self.phi[rows], self.outputs[rows], self.targets[rows], weights)
        return moments

    def dealt(self, batch: int = 64, **options: Any) -> Diagnosis:
        """The figures as a pass over the samples gives them: the smaller problem is solved."""
        folds = Folds(len(self.phi))
        for start in range(0, len(self.phi), batch):
            rows = slice(start, start + batch)
            weights = None if self.weights is None else self.weights[rows]
            folds.update(self.phi[rows], self.outputs[rows], self.targets[rows], weights)
        moments = folds.moments()
        return diagnosed(moments, task="classification", basis=folds.basis, **options)


def minimal(
    counts: Tensor, *, p: int = 64, noise: float = 0.5, seed: int = 0, balanced: bool = False
) -> Sample:
    """A minimal network: features around the means of the classes, and a head that reads these.

    Args:
        counts: Samples of each class.
        p: Features.
        noise: Length of what is added to each sample's mean of its class.
        seed: Of all that is random.
        balanced: Weigh samples so that all classes weigh alike.
    """
    classes = len(counts)
    labels = torch.repeat_interleave(torch.arange(classes), counts)
    y = torch.eye(classes, dtype=torch.float64)[labels]
    means = torch.linalg.qr(normal(p, classes, seed=seed))[0]
    phi = (y - 1 / classes) @ means.T + noise / p**0.5 * normal(len(y), p, seed=seed + 1)
    weights = y @ (len(y) / (classes * counts.double())) if balanced else None
    return Sample(phi, 5 * phi @ means, y, weights)


def unequal(classes: int, n: int, imbalance: float) -> Tensor:
    """Samples of each class, about n in all, the largest `imbalance` times the smallest."""
    shares = (
        torch.linspace(0, 1, classes, dtype=torch.float64).neg().mul(torch.tensor(imbalance).log())
    )
    counts = shares.exp() / shares.exp().sum() * n
    return counts.round().long()

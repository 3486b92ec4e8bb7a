"""One pass over a second probe: sums over its samples, in the eigenvectors of the first probe."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from workers.diagnostics.answer import Answer
from workers.diagnostics.diagnosis import MIN_SAMPLES, Diagnosis
from workers.diagnostics.errors import NonFiniteError, TooFewSamplesError
from workers.diagnostics.folds import Dealing
from workers.diagnostics.moments import Moments
from workers.diagnostics.output_space import OutputSpace
from workers.diagnostics.performance import Performance

# Rows to buffer before they are multiplied, as for the folds of the first probe.
_BUFFERED_ROWS = 512

# Differences below this share of their own energy are not resolved by float32 features.
_ROUNDING = float(np.finfo(np.float32).eps) ** 2


@dataclass(frozen=True, eq=False)
class PartSums:
    """Sums over some samples, for the figures that have an interval; sums of disjoint parts add.

    Each sample is weighted by its weight w, except in `performance`.

    Attributes:
        leading: Moments of the coordinates in the first eigenvectors, as many as there are target
            functions, followed by those in the first centred eigenvectors, as many as there are
            outputs or target functions, whichever number is larger.
        phi: `ΣwΦ`, `(p,)` float64.
        energy: `Σw‖Φ‖²`.
        inside: `Σw‖BᵀΦ‖²`, B all eigenvectors.
        centered: `Σw(B_cᵀΦ − o)`, B_c all centred eigenvectors, o a constant; `(rank,)` float64.
        centered_inside: `Σw‖B_cᵀΦ − o‖²`, with the same o.
        performance: Correct answers and loss; None without targets.
    """

    leading: Moments
    phi: Tensor
    energy: float
    inside: float
    centered: Tensor
    centered_inside: float
    performance: Performance | None

    @property
    def noise(self) -> float:
        """Largest mean energy that may be mere rounding."""
        return _ROUNDING * self.energy / self.leading.weight

    @property
    def variance(self) -> float:
        """Mean `‖Φ − mean Φ‖²`."""
        weight = self.leading.weight
        return self.energy / weight - float((self.phi / weight).square().sum())

    @property
    def variance_inside(self) -> float:
        """Variance of Φ inside the span of the centred eigenvectors."""
        weight = self.leading.weight
        return self.centered_inside / weight - float((self.centered / weight).square().sum())

    def __add__(self, other: Self) -> Self:
        mine, theirs = self.performance, other.performance
        return type(self)(
            self.leading + other.leading,
            self.phi + other.phi,
            self.energy + other.energy,
            self.inside + other.inside,
            self.centered + other.centered,
            self.centered_inside + other.centered_inside,
            None if mine is None or theirs is None else mine + theirs,
        )

    def without(self, part: Self) -> Self:
        """Return the sums over all samples but those of `part`; its `performance` is None."""
        return type(self)(
            self.leading.without(part.leading),
            self.phi - part.phi,
            self.energy - part.energy,
            self.inside - part.inside,
            self.centered - part.centered,
            self.centered_inside - part.centered_inside,
            None,
        )


class HeldOutSums:
    """Sums over the samples of a second probe, gathered batch by batch.

    The sums are over coordinates of Φ in the eigenvectors, not over Φ itself: the figures need no
    more, and there are often far fewer coordinates than features. Folds keep the first coordinates
    only. Whole samples are dealt to folds at random, as in `Folds`. Sums are on the device of the
    output space.

    Args:
        diagnosis: Diagnosis of the model on the first probe.
        n: Number of samples of the second probe.
        answer: Form of the model's answer.
        space: The space whose coordinates of the outputs are summed.
        targets: Number of target functions of the second probe, d; 0 without targets.
        by_class: Whether the target functions are indicators of d classes, given as labels.
        positions: Rows per sample: one number, or one for each sample, `(n,)`.
        seed: Seed of the dealing to folds.

    Attributes:
        task: Kind of the targets.
        positions: Rows per sample, on average.
        space: The space whose coordinates of the outputs are summed.
        uncentered: Moments of `BᵀΦ`, B all eigenvectors.
        centered: Moments of `B_cᵀΦ − o`, B_c all centred eigenvectors, o a constant vector:
            centring removes it again, and without it a large mean would cost digits. One
            coordinate, which is 0, if there are no centred eigenvectors.
        centered_rank: Number of centred eigenvectors.
        leading, centered_leading: Number of uncentred and of centred coordinates in the parts.

    Raises:
        TooFewSamplesError: Fewer than 10 samples.
    """

    def __init__(
        self,
        diagnosis: Diagnosis,
        n: int,
        answer: Answer,
        space: OutputSpace,
        *,
        targets: int = 0,
        by_class: bool = False,
        positions: int | Tensor = 1,
        seed: int = 0,
    ) -> None:
        if n < MIN_SAMPLES:
            raise TooFewSamplesError(
                f"There are {n} samples, at least {MIN_SAMPLES} are needed for any figure."
            )
        self.space = space
        self._vectors, self._centered_vectors = (
            torch.from_numpy(np.ascontiguousarray(vectors)).to(self.space.device)
            for vectors in (diagnosis.eigenvectors, diagnosis.centered_eigenvectors)
        )
        self.centered_rank = self._centered_vectors.shape[1]
        if not self.centered_rank:
            self._centered_vectors = torch.zeros_like(self._vectors[:, :1])
        self.task = answer.task
        self._answer = answer
        self.positions = float(torch.as_tensor(positions).expand(n).double().mean())
        self._targets, self._by_class = targets, by_class
        self.uncentered = self._zeros(self._vectors.shape[1])
        self.centered = self._zeros(self._centered_vectors.shape[1])
        self.leading = min(targets, self.uncentered.p)
        self.centered_leading = min(max(space.outputs, targets, 1), self.centered_rank)
        self._dealing = Dealing(n, positions=positions, seed=seed)
        self._parts: dict[int, PartSums] = {}
        self._performances: dict[int, Performance] = {}
        self._origin: Tensor | None = None
        self._waiting: list[tuple[Tensor, ...]] = []

    def update(
        self,
        phi: Tensor,
        outputs: Tensor,
        targets: Tensor | None,
        weights: Tensor | None = None,
        values: Tensor | None = None,
    ) -> None:
        """Add a batch of whole samples.

        Args:
            phi: Features `(rows, p)`, all positions of the first sample first.
            outputs: Outputs `(rows, c)`.
            targets: Values `(rows, d)`, or labels `(rows,)`; None if there are none.
            weights: How much each row counts, positive, `(rows,)`; None: 1 each.
            values: What decisions and loss are computed from, as `Answer.values` returns it; None:
                the outputs.

        Raises:
            IncompatibleShapesError: The shapes do not fit, or the model has no output for some
                target.
            NonFiniteError: The batch holds NaN or infinity.
        """
        device = self.space.device
        y = phi[:, :0] if targets is None else targets
        w = phi.new_ones(len(phi)) if weights is None else weights
        dealt = self._dealing.deal(len(phi))
        if targets is not None and outputs.shape[1]:
            judged = outputs if values is None else values
            self._measure(judged.detach().cpu(), targets.cpu(), dealt)
        # Coordinates are buffered, because the outputs themselves may be 65,536 per row.
        coordinates = self.space.coordinates(outputs)
        batch = (each.to(device) for each in (phi, coordinates, y, w, dealt))
        self._waiting.append(tuple(batch))
        if sum(len(batch[0]) for batch in self._waiting) >= _BUFFERED_ROWS:
            self._multiply()

    def parts(self) -> list[PartSums]:
        """Return the sums over each fold that holds samples, once all batches have been added.

        Raises:
            NonFiniteError: Features, outputs or targets are too large for their squares.
        """
        self._multiply()
        found = [
            replace(part, performance=self._performances.get(fold))
            for fold, part in self._parts.items()
        ]
        for name, sums in (
            ("features", torch.tensor([part.energy for part in found])),
            ("outputs", self.uncentered.f_f),
            ("targets", self.uncentered.y_y),
        ):
            if sums is not None and not bool(torch.isfinite(sums).all()):
                raise NonFiniteError(
                    f"The {name} are finite but too large to be squared in float64. Scale the "
                    "model down."
                )
        return found

    def _multiply(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        features, outputs, targets, weights, dealt = (
            torch.cat(tensors) for tensors in zip(*waiting, strict=True)
        )
        phi = features.double()
        uncentered, centered = phi @ self._vectors, phi @ self._centered_vectors
        if self._origin is None:
            self._origin = centered.mean(0)
        centered -= self._origin
        self.uncentered.update(uncentered, outputs, targets, weights)
        self.centered.update(centered, outputs, targets, weights)
        leading = torch.cat(
            [uncentered[:, : self.leading], centered[:, : self.centered_leading]], 1
        )
        squares = torch.stack([rows.square().sum(1) for rows in (phi, uncentered, centered)], 1)
        for fold in set(dealt.tolist()):
            rows = dealt == fold
            moments = self._zeros(leading.shape[1])
            moments.update(leading[rows], outputs[rows], targets[rows], weights[rows])
            w = weights[rows].double()
            energy, inside, centered_inside = (w @ squares[rows]).tolist()
            part = PartSums(
                moments,
                w @ phi[rows],
                energy,
                inside,
                w @ centered[rows],
                centered_inside,
                None,
            )
            held = self._parts.get(fold)
            self._parts[fold] = part if held is None else held + part

    def _measure(self, values: Tensor, targets: Tensor, dealt: Tensor) -> None:
        for fold in set(dealt.tolist()):
            rows = dealt == fold
            measured = self._answer.measure(values[rows], targets[rows])
            held = self._performances.get(fold)
            self._performances[fold] = measured if held is None else held + measured

    def _zeros(self, features: int) -> Moments:
        return Moments.zeros(
            features,
            self.space.size,
            self._targets,
            by_class=self._by_class,
            device=self.space.device,
        )

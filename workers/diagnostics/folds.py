"""Dealing samples out to folds, so that leaving one fold out at a time measures uncertainty."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from workers.diagnostics.coordinates import reduce_rows
from workers.diagnostics.incoming import check_finite
from workers.diagnostics.moments import Moments

# Rows gathered per fold before they are multiplied, or half the number of features if that is more:
# multiplying a few rows would move the p×p sums through memory for almost no arithmetic.
_BUFFERED_ROWS = 512


class Dealing:
    """Random assignment of samples to folds, batch by batch.

    Samples are not dealt in turn: datasets are often sorted by class or cycle through the classes,
    and a fold that held one class would make every interval wrong. Whole samples are dealt: the
    positions of one sample are alike, and spread over several folds they would hide how much the
    figures vary.

    Args:
        n: Number of samples.
        positions: Rows per sample: one number, or one for each sample, `(n,)`.
        count: Number of folds.
        seed: Seed of the dealing.
    """

    def __init__(
        self, n: int, *, positions: int | Tensor = 1, count: int = 10, seed: int = 0
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._fold_of = (torch.arange(n) % count)[torch.randperm(n, generator=generator)]
        self._rows_up_to = torch.as_tensor(positions).expand(n).cumsum(0)
        self._seen = 0

    def deal(self, rows: int) -> Tensor:
        """Return the fold of each of the next rows, `(rows,)`; a sample's rows share a fold."""
        first, self._seen = self._seen, self._seen + rows
        samples = torch.searchsorted(self._rows_up_to, torch.arange(first, self._seen), right=True)
        return self._fold_of[samples]


class _Part(NamedTuple):
    """Rows of one batch that belong to one fold."""

    phi: Tensor
    outputs: Tensor
    targets: Tensor | None
    weights: Tensor | None


class Folds:
    """Moments of disjoint random parts of the samples, filled batch by batch.

    With fewer rows than features, rows are kept instead of p×p sums, and the moments are over the
    features' coordinates in a basis of their span. Outputs are treated likewise if there are fewer
    rows than outputs.

    Moments are on the device of the features.

    Args:
        n: Number of samples.
        positions: Rows per sample: one number, or one for each sample, `(n,)`.
        count: Number of folds.
        seed: Seed of the dealing.
        classes: Number of classes that labels distinguish; None if targets are values.

    Attributes:
        count: Number of folds.
        basis: `(p, q)` float64, orthonormal columns: the basis of the features' coordinates, known
            once the moments have been taken. None if the moments are over the features themselves.
        output_basis: `(c, q)`, the same for the outputs.
    """

    def __init__(
        self,
        n: int,
        *,
        positions: int | Tensor = 1,
        count: int = 10,
        seed: int = 0,
        classes: int | None = None,
    ) -> None:
        self._dealing = Dealing(n, positions=positions, count=count, seed=seed)
        self._rows_in_all = int(torch.as_tensor(positions).expand(n).sum())
        self.count = count
        self._moments: list[Moments] = []
        # For each batch, one part per fold.
        self._waiting: list[list[_Part]] = []
        self._waiting_rows = 0
        self._classes = classes
        self._keeps_features = self._keeps_outputs = False
        self.basis: Tensor | None = None
        self.output_basis: Tensor | None = None

    def update(
        self,
        phi: Tensor,
        outputs: Tensor,
        targets: Tensor | None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Deal out the next batch.

        Args:
            phi: Features `(rows, p)`, all positions of the first sample first.
            outputs: Outputs `(rows, c)`.
            targets: Values `(rows, d)`, labels `(rows,)`, or None; the same kind in every call.
            weights: Weight of each row, positive, `(rows,)`, or None for 1 each; the same kind in
                every call.

        Returns:
            The fold that each row went to, `(rows,)`, on the CPU.

        Raises:
            NonFiniteError: Features or outputs hold NaN or infinity.
        """
        self._keeps_features = self._rows_in_all < phi.shape[1]
        self._keeps_outputs = self._rows_in_all < outputs.shape[1]
        if self._keeps_rows:
            check_finite("features", phi)
            check_finite("outputs", outputs)
        dealt = self._dealing.deal(len(phi))
        order = dealt.argsort(stable=True)
        sizes = dealt.bincount(minlength=self.count).tolist()
        parts = (self._parts(values, order, sizes) for values in (phi, outputs, targets, weights))
        self._waiting.append([_Part(*part) for part in zip(*parts, strict=True)])
        self._waiting_rows += len(phi)
        most = self.count * max(_BUFFERED_ROWS, phi.shape[1] // 2)
        if self._waiting_rows >= most and not self._keeps_rows:
            self._multiply()
        return dealt

    def moments(self) -> list[Moments]:
        """Return the folds' moments of the rows so far; if n < p, all must have been dealt."""
        if self._keeps_features and self.basis is None:
            self.basis = self._reduce("phi")
        if self._keeps_outputs and self.output_basis is None:
            self.output_basis = self._reduce("outputs")
        self._multiply()
        for moments in self._moments:
            moments.mirror()
        return self._moments

    @property
    def _keeps_rows(self) -> bool:
        return self._keeps_features or self._keeps_outputs

    def _reduce(self, name: Literal["phi", "outputs"]) -> Tensor:
        """Replace all features, or outputs, by coordinates in a common basis; return the basis."""
        coordinates, basis = reduce_rows(
            [getattr(part, name) for parts in self._waiting for part in parts]
        )
        taken = 0
        for parts in self._waiting:
            for fold, part in enumerate(parts):
                first, taken = taken, taken + len(part.phi)
                parts[fold] = part._replace(**{name: coordinates[first:taken]})
        return basis

    def _multiply(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._waiting_rows = 0
        for fold, parts in enumerate(zip(*waiting, strict=True)):
            features, outputs, targets, weights = zip(*parts, strict=True)
            phi, f, y = _joined_features(features), torch.cat(outputs), joined(targets)
            if not self._moments:
                self._moments = [self._zeros(phi, f, y) for _ in range(self.count)]
            self._moments[fold].update(phi, f, y, joined(weights), mirrored=False)

    def _parts(
        self, values: Tensor | None, order: Tensor, sizes: list[int]
    ) -> Sequence[Tensor | None]:
        """Split a batch by fold: views of one copy that is ordered by fold."""
        if values is None:
            return [None] * self.count
        return values.index_select(0, order.to(values.device)).split_with_sizes(sizes)

    def _zeros(self, phi: Tensor, f: Tensor, y: Tensor | None) -> Moments:
        by_class = self._classes is not None
        targets = self._classes or (0 if y is None or by_class else y.shape[1])
        return Moments.zeros(
            phi.shape[1], f.shape[1], targets, by_class=by_class, device=phi.device
        )


def joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    """Concatenate batches of values that all batches have or none has."""
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None


def _joined_features(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate features as float64, without an intermediate copy in their own dtype."""
    first = parts[0]
    rows = torch.empty(
        sum(map(len, parts)), first.shape[1], dtype=torch.float64, device=first.device
    )
    return torch.cat(list(parts), out=rows)

"""How many features a model needs to keep its answers: outputs from the first k eigenfunctions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.diagnostics.intervals import Interval, wilson_interval
from workers.diagnostics.measures import Subject
from workers.diagnostics.output_space import OutputSpace

# Every k up to here is evaluated; after that each k exceeds the last one by a fixed factor.
_EVERY = 32
_GROWTH = 1.15
# Outputs held in memory at once: 32 MiB in float64.
_BLOCK = 1 << 22
_NEARLY_ALL_ANSWERS = 0.99
# Up to this many multiplications per row take less time than the overhead around them.
_FEW_PRODUCTS = 1 << 16


@dataclass(frozen=True, eq=False)
class Rows:
    """Single rows of a probe, for figures that do not follow from sums over rows.

    Attributes:
        features: `(m, p)`, any real dtype.
        answers: What the model decides for each row: its class, `(m,)`, or whether it has each
            label, `(m, L)`. None where the model decides nothing, as for regression.
        labels: True classes or labels, in the same form; None for regression and without targets.
        decide: Function that gives the model's decisions for other outputs, `(m, c)` of at least
            float32; None where that is not known.
    """

    features: Tensor
    answers: Tensor | None
    labels: Tensor | None
    decide: Callable[[Tensor], Tensor | None] | None = None


@dataclass(frozen=True)
class CompressedModel:
    """Figures of a model whose outputs are projected on its first k eigenfunctions.

    Attributes:
        k: Number of centred eigenfunctions kept; the mean output is always kept.
        accuracy: Share of decisions that are right; None without labels or decisions.
        agreement: Share of decisions that equal those of the whole model; None without decisions,
            as for regression.
        output_error: `‖F − P_k F‖ / ‖F − F̄‖`, in [0, 1]; for a classifier, of the cleaned outputs.
    """

    k: int
    accuracy: float | None
    agreement: float | None
    output_error: float


def compress(entire: Subject, rows: Rows, space: OutputSpace) -> tuple[CompressedModel, ...]:
    """Compute the compression curve: `f_k(x) = F̄ + Σ_{j≤k} ⟨F|e_j⟩ e_j(x)`, centred e_j.

    Args:
        entire: All samples. The curve has points at the dimension r of the learned space and at 2r.
        rows: Rows whose features are in the same coordinates as the inner products.
        space: Output space in whose coordinates the inner products are.

    Returns:
        Points by increasing k, from 0 to all eigenfunctions; none if the outputs do not vary.
    """
    cleaned, pairs = entire.learned.cleaned, entire.spectra.centered.pairs
    total = float(cleaned.f_f.trace())
    if total <= cleaned.f_noise:
        return ()
    held = (pairs.eigenvectors.T @ cleaned.phi_f).square().sum(1) / pairs.eigenvalues
    explained = torch.cat([held.new_zeros(1), held.cumsum(0)]) / total
    steps = _steps(pairs.rank, int(entire.learned.basis.dimension))
    kept = _answers_kept(entire, rows, space, steps)
    return tuple(
        CompressedModel(
            k=k,
            accuracy=accuracy,
            agreement=agreement,
            output_error=float((1 - explained[k]).clamp(0.0, 1.0).sqrt()),
        )
        for k, (accuracy, agreement) in zip(steps, kept, strict=True)
    )


def _answers_kept(
    entire: Subject, rows: Rows, space: OutputSpace, steps: Sequence[int]
) -> list[tuple[float | None, float | None]]:
    """Return the shares of right and of unchanged decisions for each number of eigenfunctions.

    Rows are handled in blocks: 10,000 rows of 65,536 outputs would take 5 GB at once.

    Args:
        entire: All samples.
        rows: The rows.
        space: Output space in whose coordinates the inner products are.
        steps: Numbers of eigenfunctions, ascending.
    """
    if rows.decide is None:
        return [(None, None)] * len(steps)
    pairs = entire.spectra.centered.pairs
    weights = space.expand(
        (pairs.eigenvectors.T @ entire.centered.phi_f) / pairs.eigenvalues[:, None]
    )
    # The precision of the features suffices: the model itself computes its outputs from them.
    dtype = torch.promote_types(rows.features.dtype, torch.float32)
    vectors, weights, mean = (
        each.to(dtype) for each in (pairs.eigenvectors, weights, space.expand(entire.raw.f))
    )
    compressed = _Compressed(vectors, weights, mean, steps)
    centre = entire.raw.phi.to(dtype)
    right, kept = _Tally(rows.labels, len(steps)), _Tally(rows.answers, len(steps))
    size = compressed.rows_at_once
    for start in range(0, len(rows.features), size):
        block = slice(start, start + size)
        features = rows.features[block].to(dtype) - centre
        for step, outputs in compressed.outputs(features):
            decided = rows.decide(outputs.flatten(0, 1))
            for tally in (right, kept):
                tally.add(step, decided, block)
    return list(zip(right.shares(), kept.shares(), strict=True))


class _Compressed:
    """The model reduced to its first k eigenfunctions, for several k.

    Args:
        vectors: Eigenvectors `(p, rank)`.
        weights: Contribution of each eigenfunction to the outputs, `(rank, c)`.
        mean: Mean outputs, which remain without eigenfunctions, `(c,)`.
        steps: Numbers of eigenfunctions, ascending.
    """

    def __init__(
        self, vectors: Tensor, weights: Tensor, mean: Tensor, steps: Sequence[int]
    ) -> None:
        self._vectors, self._weights, self._mean = vectors, weights, mean
        self._steps = steps
        (p, rank), c = vectors.shape, len(mean)
        self._few = sum(k <= _EVERY for k in steps)
        first, many = min(_EVERY, rank), len(steps) - self._few
        # Multiplications per row. Either one matrix for each k maps features to outputs, or
        # features are projected on all eigenfunctions and these are mapped to outputs. In the first
        # case all small k share the same few eigenfunctions.
        by_matrix = p * (first + many * c) + first * self._few * c
        self._inwards: Tensor | None = None
        self.rows_at_once = max(1, _BLOCK // max(p, c))
        if by_matrix <= max(rank * (p + c), _FEW_PRODUCTS):
            heads = self._heads(p)
            self._inwards = torch.cat([vectors[:, :first], *heads[self._few :]], 1)
            self._outwards = vectors[:, :first].T @ torch.cat(heads[: self._few], 1)
            self.rows_at_once = max(1, _BLOCK // max(p, len(steps) * c))

    def outputs(self, features: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Compute the outputs of some rows.

        Args:
            features: Features less their mean, `(m, p)`.

        Yields:
            A slice of the steps, and the outputs for each of these, `(m, steps, c)`.
        """
        if self._inwards is not None:
            first = len(self._outwards)
            few, many = (features @ self._inwards).tensor_split([first], 1)
            shape = (len(features), -1, len(self._mean))
            yield slice(0, self._few), (few @ self._outwards).view(shape).add_(self._mean)
            yield slice(self._few, None), many.reshape(shape).add_(self._mean)
            return
        along, before = features @ self._vectors, 0
        outputs = self._mean.expand(len(along), -1).clone()
        for step, k in enumerate(self._steps):
            outputs.addmm_(along[:, before:k], self._weights[before:k])
            before = k
            yield slice(step, step + 1), outputs[:, None]

    def _heads(self, p: int) -> list[Tensor]:
        """Return, for each k, the matrix from features to outputs, `(p, c)`."""
        heads, before = [self._weights.new_zeros(p, len(self._mean))], 0
        for k in self._steps:
            heads.append(heads[-1] + self._vectors[:, before:k] @ self._weights[before:k])
            before = k
        return heads[1:]


class _Tally:
    """Count of decisions that equal the wanted ones, for each number of eigenfunctions.

    Args:
        wanted: The decisions of all rows; None if there are none.
        steps: How many numbers of eigenfunctions there are.
    """

    def __init__(self, wanted: Tensor | None, steps: int) -> None:
        self._wanted = wanted
        self._counts = torch.zeros(steps, dtype=torch.int64)
        self._decides = wanted is not None

    def add(self, steps: slice, decided: Tensor | None, block: slice) -> None:
        """Count some rows for some steps; decisions are `(rows · steps, …)`, steps fastest."""
        if decided is None or self._wanted is None:
            self._decides = False
            return
        wanted = self._wanted[block]
        right = decided.reshape(len(wanted), -1, *wanted.shape[1:]) == wanted[:, None]
        self._counts[steps] += right.transpose(0, 1).flatten(1).sum(1).cpu()

    def shares(self) -> list[float | None]:
        """Return the share of each step; None if there are no decisions."""
        if self._wanted is None or not self._decides:
            return [None] * len(self._counts)
        return [count / self._wanted.numel() for count in self._counts.tolist()]


def features_needed(curve: Sequence[CompressedModel]) -> int | None:
    """Return the smallest k from which on 99 % of the answers are kept; None if there is none."""
    return _first_to_keep(curve, [point.agreement for point in curve])


def features_needed_interval(curve: Sequence[CompressedModel], trials: int) -> Interval | None:
    """Return the 95 % interval of `features_needed`, with the eigenfunctions held fixed.

    The share of answers kept by k eigenfunctions is a share of independent rows, so it has a Wilson
    interval. The result spans every k that, by these intervals, may be the first to keep 99 %. It
    ends at the last k at most, since all eigenfunctions together are the model itself.

    Args:
        curve: The compression curve.
        trials: Number of independent rows that the curve is computed from.

    Returns:
        The bounds; None where no k keeps the answers.
    """
    if features_needed(curve) is None:
        return None
    bounds = [
        wilson_interval(point.agreement, trials) for point in curve if point.agreement is not None
    ]
    low = _first_to_keep(curve, [high for _, high in bounds])
    high = _first_to_keep(curve, [low for low, _ in bounds])
    last = curve[-1].k
    return float(last if low is None else low), float(last if high is None else high)


def _first_to_keep(curve: Sequence[CompressedModel], kept: Sequence[float | None]) -> int | None:
    needed = None
    for point, share in zip(reversed(curve), reversed(kept), strict=True):
        if share is None or share < _NEARLY_ALL_ANSWERS:
            break
        needed = point.k
    return needed


def _steps(rank: int, r: int) -> list[int]:
    """Choose the k to evaluate: every small one, then ever fewer."""
    steps = {k for k in (r, 2 * r, rank) if k <= rank} | set(range(min(_EVERY, rank) + 1))
    k = float(_EVERY)
    while (k := k * _GROWTH) < rank:
        steps.add(round(k))
    return sorted(steps)

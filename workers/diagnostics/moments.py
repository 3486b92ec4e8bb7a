"""One pass over the samples: sums that add, and the inner products that follow from them.

Every figure that does not look at single rows follows from ten sums over samples. Sums of disjoint
sets add, so batches, shards and folds merge, and memory is O(p² + pC) for any number of samples.

If targets are classes, ΣYYᵀ is diagonal with entries ΣY, because class indicators never overlap,
and columns are kept only for classes that occur: a few thousand samples contain at most a few
thousand of 65,536 classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from workers.diagnostics.averages import Averages
from workers.diagnostics.class_sums import indicators, united, widened
from workers.diagnostics.errors import DiagnosticsError, IncompatibleShapesError, NonFiniteError
from workers.diagnostics.incoming import samples, stored_classes
from workers.diagnostics.products import add_products, mirror

_WHOLE = ("phi", "f", "y", "phi_phi", "f_f", "phi_f")
# With class targets, these have columns only for the classes that occur.
_BY_CLASS = ("phi_y", "f_y")
_SUMS = (*_WHOLE, *_BY_CLASS)
# The first is kept only with target values, the second only with class targets.
_OF_VALUES, _OF_CLASSES = "y_y", "y_classes"


@dataclass(eq=False)
class Moments:
    """Additive float64 sums over samples of features Φ, outputs F and targets Y.

    Start from `Moments.zeros`, feed batches to `update`, merge with `+`. Each sample's terms are
    multiplied by its weight, 1 unless another is given.

    Targets are values, or the indicators of d classes, k of them with samples.

    All tensors are on one device, and so are the figures computed from them.

    Attributes:
        n: Number of samples, whatever their weights.
        weight, weight_squared: `Σw` and `Σw²`; both n where no sample was weighted.
        y_count: Unweighted `ΣY`, `(d,)`: for class indicators, the number of samples of each class.
        phi, f, y: `ΣwΦ` `(p,)`, `ΣwF` `(c,)`, `ΣwY` `(d,)`.
        phi_phi, f_f, phi_f: `ΣwΦΦᵀ` `(p, p)`, `ΣwFFᵀ` `(c, c)`, `ΣwΦFᵀ` `(p, c)`.
        phi_y, f_y: `ΣwΦYᵀ` `(p, d)` and `ΣwFYᵀ` `(c, d)`; for classes, k columns.
        y_y: `ΣwYYᵀ` `(d, d)` for values; None for classes, where it is diagonal with entries `y`.
        classes: Class of each of the k columns, ascending `(k,)` int64; None for values.

    Example:
        >>> moments = Moments.zeros(p=2, c=1, d=0)
        >>> moments.update(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0], [0.0]]))
        >>> moments.n, moments.phi.tolist(), moments.phi_f.tolist()
        (2, [4.0, 6.0], [[1.0], [2.0]])
    """

    n: int
    weight: float
    weight_squared: float
    y_count: Tensor
    phi: Tensor
    f: Tensor
    y: Tensor
    phi_phi: Tensor
    f_f: Tensor
    y_y: Tensor | None
    phi_f: Tensor
    phi_y: Tensor
    f_y: Tensor
    classes: Tensor | None = None

    @classmethod
    def zeros(
        cls,
        p: int,
        c: int,
        d: int = 0,
        *,
        by_class: bool = False,
        device: torch.device | None = None,
    ) -> Self:
        """Build sums over no samples.

        Args:
            p: Number of features.
            c: Number of outputs, 0 for none.
            d: Number of targets, 0 for none.
            by_class: Whether the targets are the indicators of d classes, given as labels.
            device: Where the sums are kept; None: on the CPU.
        """
        zeros = partial(torch.zeros, dtype=torch.float64, device=device)
        if p < 1 or c < 0 or d < 0:
            raise IncompatibleShapesError(
                f"Moments need at least one feature, and no fewer than 0 outputs and targets, got "
                f"p={p}, c={c}, d={d}."
            )
        return cls(
            n=0,
            weight=0.0,
            weight_squared=0.0,
            y_count=zeros(d),
            phi=zeros(p),
            f=zeros(c),
            y=zeros(d),
            phi_phi=zeros(p, p),
            f_f=zeros(c, c),
            y_y=None if by_class else zeros(d, d),
            phi_f=zeros(p, c),
            phi_y=zeros(p, 0 if by_class else d),
            f_y=zeros(c, 0 if by_class else d),
            classes=zeros(0, dtype=torch.int64) if by_class else None,
        )

    @property
    def device(self) -> torch.device:
        """Device of the sums."""
        return self.phi.device

    @property
    def p(self) -> int:
        """Number of features."""
        return self.phi.shape[0]

    @property
    def c(self) -> int:
        """Number of outputs."""
        return self.f.shape[0]

    @property
    def d(self) -> int:
        """Number of target functions; 0 where the probe has no targets."""
        return self.y.shape[0]

    @property
    def y_squares(self) -> float:
        """`Σw‖Y‖²`; for class indicators, the total weight."""
        return self.weight if self.y_y is None else float(self.y_y.trace())

    @property
    def effective_n(self) -> float:
        """Kish's effective number of samples, `(Σw)² / Σw²`."""
        return self.weight**2 / self.weight_squared

    @property
    def is_weighted(self) -> bool:
        """Whether some samples weigh more than others, rounding aside."""
        return self.effective_n < (1 - 1e-9) * self.n

    def update(
        self,
        phi: Tensor,
        outputs: Tensor,
        targets: Tensor | None = None,
        weights: Tensor | None = None,
        *,
        mirrored: bool = True,
    ) -> None:
        """Add a batch of samples, in place.

        Args:
            phi: Features `(batch, p)`, any real dtype; like all arguments, on any device.
            outputs: Outputs of the final linear layer `(batch, c)`.
            targets: Values `(batch, d)`, or with class targets the class of each sample, `(batch,)`
                int64; None only if `d` is 0.
            weights: Weight of each sample, positive, `(batch,)`; None: 1 each.
            mirrored: Whether to complete `phi_phi`, `f_f` and `y_y`; if not, part of their lower
                triangles is missing until `mirror` is called.

        Raises:
            IncompatibleShapesError: The shapes do not fit these sums.
            NonFiniteError: The batch holds NaN or infinity. Nothing is added then.
            DiagnosticsError: A weight is not positive. Nothing is added then.
        """
        rows = phi.shape[0] if phi.ndim else 0
        if targets is None:
            targets = phi.new_zeros(rows, 0)
        x = samples("features", phi, (rows, self.p), self.device)
        f = samples("outputs", outputs, (rows, self.c), self.device)
        y = self._targets(targets, rows)
        w = x.new_ones(rows, 1)
        if weights is not None:
            w = samples("weights", weights[:, None], (rows, 1), self.device)
            if not bool((w > 0).all()):
                raise DiagnosticsError("The weights of samples must be positive.")
        self.n += rows
        self.weight += float(w.sum())
        self.weight_squared += float(w.square().sum())
        root = w.sqrt()
        if weights is not None:
            x, f = root * x, root * f
        add_products(self.phi_phi, x)
        add_products(self.f_f, f)
        self._add_crossed(x, f, y, root)
        if mirrored:
            self.mirror()

    def mirror(self) -> None:
        """Complete the lower triangles of the symmetric sums."""
        for sums in (self.phi_phi, self.f_f, self.y_y):
            if sums is not None:
                mirror(sums)

    def merge(self, other: Self) -> Self:
        """Return the sums over the samples of both, which must be disjoint sets."""
        return self._combined(other, sign=1)

    __add__ = merge

    def without(self, part: Self) -> Self:
        """Return the sums over the samples left when those of `part` are taken out."""
        return self._combined(part, sign=-1)

    def averages(self, *, reuse: bool = False) -> Averages:
        """Return the uncentred inner products: the sums divided by their weight.

        Args:
            reuse: Whether to overwrite `phi_phi` in place, to save p² numbers; its sums are lost.
        """
        weight = self.weight
        y = (self.y if self.classes is None else self.y[self.classes]) / weight
        numbers = self.phi.new_tensor([self.n, self.effective_n, 0.0])
        return Averages(
            n=numbers[0],
            effective_n=numbers[1],
            is_centered=False,
            phi=self.phi / weight,
            f=self.f / weight,
            y=y,
            phi_phi=self.phi_phi.div_(weight) if reuse else self.phi_phi / weight,
            f_f=self.f_f / weight,
            y_y=None if self.y_y is None else self.y_y / weight,
            phi_f=self.phi_f / weight,
            phi_y=self.phi_y / weight,
            shares=y,
            classes=self.classes,
            phi_noise=numbers[2],
            f_noise=numbers[2],
            y_noise=numbers[2],
        )

    def centered_averages(self) -> Averages:
        """Return the inner products after removing the mean over samples from Φ, F and Y."""
        return self.averages().centered()

    def with_classes_of(self, other: Self) -> Self:
        """Return the same sums with a column for each class that has one in `other`, a superset."""
        if self.classes is None or other.classes is None or len(self.classes) == len(other.classes):
            return self
        phi_y, f_y = (widened(sums, self.classes, other.classes) for sums in (self.phi_y, self.f_y))
        return replace(self, classes=other.classes, phi_y=phi_y, f_y=f_y)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the sums by name: float64 arrays, `n` and classes int64; for `from_arrays`."""
        sums = {name: getattr(self, name) for name in ("y_count", *_SUMS)}
        if self.y_y is not None:
            sums[_OF_VALUES] = self.y_y
        if self.classes is not None:
            sums[_OF_CLASSES] = self.classes
        return {
            "n": np.array(self.n, dtype=np.int64),
            "weight": np.array(self.weight),
            "weight_squared": np.array(self.weight_squared),
            **{name: values.cpu().numpy() for name, values in sums.items()},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Restore sums from what `to_arrays` returned; other arrays are ignored.

        Raises:
            IncompatibleShapesError: A sum is missing, or shapes contradict each other.
            NonFiniteError: A sum is not finite.
        """
        by_class = _OF_CLASSES in arrays
        names = _SUMS if by_class else (*_SUMS, _OF_VALUES)
        missing = {"n", *names} - arrays.keys()
        if missing:
            raise IncompatibleShapesError(
                f"These arrays are not a set of moments: {', '.join(sorted(missing))} missing."
            )
        sizes = (arrays[name].size for name in ("phi", "f", "y"))
        moments = cls.zeros(*sizes, by_class=by_class)
        if by_class:
            classes = stored_classes(arrays[_OF_CLASSES], moments.d)
            columns = (moments.phi.new_zeros(size, len(classes)) for size in (moments.p, moments.c))
            moments.classes, (moments.phi_y, moments.f_y) = classes, columns
        moments.n = int(arrays["n"])
        moments.weight = float(arrays.get("weight", arrays["n"]))
        moments.weight_squared = float(arrays.get("weight_squared", arrays["n"]))
        arrays = {"y_count": arrays["y"], **arrays}  # absent from files older than weights
        for name in ("y_count", *names):
            values = torch.tensor(arrays[name], dtype=torch.float64)
            expected = getattr(moments, name).shape
            if values.shape != expected:
                raise IncompatibleShapesError(
                    f"The sum {name} has shape {tuple(values.shape)}, expected {tuple(expected)}."
                )
            if not bool(torch.isfinite(values).all()):
                raise NonFiniteError(f"The sum {name} holds NaN or infinity.")
            setattr(moments, name, values)
        return moments

    def _targets(self, targets: Tensor, rows: int) -> Tensor:
        """Return values as float64, or labels as they are, after checking that they fit."""
        if self.classes is None:
            return samples("targets", targets, (rows, self.d), self.device)
        if tuple(targets.shape) != (rows,):
            raise IncompatibleShapesError(
                f"The labels of a batch have shape {tuple(targets.shape)}, expected {(rows,)}."
            )
        if rows and not 0 <= int(targets.min()) <= int(targets.max()) < self.d:
            raise IncompatibleShapesError(f"Labels must be whole numbers from 0 to {self.d - 1}.")
        return targets.to(self.device)

    def _add_crossed(self, phi: Tensor, f: Tensor, targets: Tensor, root: Tensor) -> None:
        """Add all products except those of Φ with itself and of F with itself.

        Args:
            phi: Φ of each row, times the square root of its weight.
            f: F, scaled likewise.
            targets: Values or labels, not scaled.
            root: Square roots of the weights, `(rows, 1)`.
        """
        here = None
        if self.classes is None:
            values = targets
            self.y_count += values.sum(0)
        else:
            here, values = indicators(targets)
            self.y_count[here] += values.sum(0)
        y = root * values
        # A product with few columns takes as long as reading Φ once, so all are computed in one.
        sizes = [self.c, y.shape[1], 1]
        with_f, with_y, alone = torch.cat([f, y, root], 1).T.mm(phi).split_with_sizes(sizes)
        f_with_y, f_alone = torch.cat([y, root], 1).T.mm(f).split_with_sizes(sizes[1:])
        self.phi += alone[0]
        self.f += f_alone[0]
        self.phi_f += with_f.T
        if here is None:
            self.y += (root.T @ y)[0]
            if self.y_y is not None:
                add_products(self.y_y, y)
            self.phi_y += with_y.T
            self.f_y += f_with_y.T
            return
        self.y[here] += (root.T @ y)[0]
        classes = self._make_room(here)
        at = torch.searchsorted(classes, here)
        self.phi_y.index_add_(1, at, with_y.T)
        self.f_y.index_add_(1, at, f_with_y.T)

    def _make_room(self, more: Tensor) -> Tensor:
        """Add columns for more classes, and return all classes that have one."""
        present = more if self.classes is None else self.classes
        classes = united(present, more)
        self.phi_y = widened(self.phi_y, present, classes)
        self.f_y = widened(self.f_y, present, classes)
        self.classes = classes
        return classes

    def _combined(self, other: Self, *, sign: int) -> Self:
        self._check_combines(other)
        y_count = self.y_count + sign * other.y_count
        classes, columns = self._columns(other, y_count)
        sums: dict[str, Any] = {
            name: torch.add(mine, theirs, alpha=sign)
            for name, (mine, theirs) in (
                *((name, (getattr(self, name), getattr(other, name))) for name in _WHOLE),
                *columns.items(),
            )
        }
        return type(self)(
            n=self.n + sign * other.n,
            weight=self.weight + sign * other.weight,
            weight_squared=self.weight_squared + sign * other.weight_squared,
            y_count=y_count,
            classes=classes,
            **{"y_y": None, **sums},
        )

    def _columns(
        self, other: Self, y_count: Tensor
    ) -> tuple[Tensor | None, dict[str, tuple[Tensor, Tensor]]]:
        """Return the classes, and the sums of both with targets, aligned column by column.

        Classes left without samples, as taking some out may do, have no column.
        """
        if self.classes is None or other.classes is None:
            names = (*_BY_CLASS, _OF_VALUES)
            return None, {name: (getattr(self, name), getattr(other, name)) for name in names}
        if torch.equal(self.classes, other.classes) and bool((y_count[self.classes] > 0).all()):
            return self.classes, {
                name: (getattr(self, name), getattr(other, name)) for name in _BY_CLASS
            }
        union = united(self.classes, other.classes)
        kept = y_count[union] > 0
        return union[kept], {
            name: (
                widened(getattr(self, name), self.classes, union)[:, kept],
                widened(getattr(other, name), other.classes, union)[:, kept],
            )
            for name in _BY_CLASS
        }

    def _check_combines(self, other: Self) -> None:
        if (self.p, self.c, self.d) != (other.p, other.c, other.d):
            raise IncompatibleShapesError(
                f"Only moments of equal shape combine: one has (p, c, d) = "
                f"{(self.p, self.c, self.d)}, the other {(other.p, other.c, other.d)}. They stem "
                "from different models or probes."
            )
        if (self.classes is None) != (other.classes is None):
            raise IncompatibleShapesError(
                "Only moments of equal targets combine: one is of classes, the other of values."
            )

"""What the figures of an analysis cost in memory, and how they are to be found, before it runs.

With fewer rows than features the dual problem is smaller in every respect, so rows decide the path
and memory only whether there is one. Solving takes time too. `eigh` of a p×p matrix takes about
0.45 ns·p³ on one thread: measured 0.48 s for p = 1024, 4.1 s for 2048 and 30 s for 4096, so 4 min
for 8192. It runs once, for the spectrum as given, from which the centred one follows in a third of
that; and once for each of ten folds where outputs are more than about p/40.

Outputs of a known head cost as many coordinates as it has dimensions, and classes those that occur:
10,000 classes of p = 512 take about what 513 outputs do. What remains of their number are single
rows, whose outputs and distances to class means are looked at for each k of the compression curve
and each fold.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

Method = Literal["full", "dual"]

_FLOAT64 = 8
# Sets of sums at the peak: those of the folds, their total, its averages and the centred ones, and
# what a fold leaves of these.
_SETS_BESIDE_FOLDS = 5
# Of a second probe: the total, what a fold leaves of it, its averages, centred ones, and copies.
_HELD_OUT_SETS = 6
# Matrices of the problem's size beside them: two of eigenvectors, and either what the dense solver
# works in or what leaving out a fold takes.
_MATRICES = 9
# Of coordinates of the outputs: as given, centred, cleaned, a fold left out and its eigenvectors.
_OUTPUT_MATRICES = 6
# Of outputs by coordinates, where these are of a head: its columns, the basis and the workspace of
# the factorization between them; then the basis and what eigenfunctions add to each output.
_HEAD_MATRICES = 4
# Of features by classes: sums of all, without a fold, averages, centred ones, and class means.
_CLASS_MATRICES = 8
# Rows that each fold gathers, beside a batch more, and blocks of rows by outputs.
_GATHERED_ROWS = 768
_BLOCK_VALUES = 4 << 22
# Of the size of the rows, where these are kept: the basis, the eigenvectors in terms of features
# and their copies, or those of the basis on its way into the artifact.
_ROW_MATRICES = 7
# What the allocator and the libraries keep for themselves, whatever the size.
_OVERHEAD_BYTES = 32 << 20
# From so many rows and columns on a GPU is sooner done than a core: below, starting thousands of
# small operations there takes longer than they do here.
_GPU_SIZE = 512
# How much of the memory that is free on a GPU may be taken: the allocator there rounds up, and the
# solver wants room of its own.
_GPU_SHARE = 0.5
# Against a float64 SVD of the features, eigenvalues were off by 3 to 28 eps ρ_1 for matrices of 40
# to 700 rows and columns: about √size · eps ρ_1, to which this is the margin.
_ROUNDING = 4 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Problem:
    """Sizes that decide what the figures cost.

    Attributes:
        rows: Rows of features: samples times positions.
        p: Features.
        c: Outputs.
        d: Targets a row, 0 without.
        folds: Disjoint parts that the samples are dealt to.
        by_class: Whether the targets are indicators of d classes, told by labels.
        head: Whether the linear layer is known that gives the outputs.
        held_out: Whether there is a second probe, which is taken to be no larger than the first.
    """

    rows: int
    p: int
    c: int
    d: int
    folds: int = 10
    by_class: bool = False
    head: bool = False
    held_out: bool = False

    @property
    def method(self) -> Method:
        """Dual where rows are fewer than features: the smaller of the two problems."""
        return "dual" if self.rows < self.p else "full"

    @property
    def size(self) -> int:
        """Rows and columns of the matrix that is diagonalized."""
        return min(self.rows, self.p)

    def suits_gpu(self, free_bytes: int) -> bool:
        """Whether the figures are found sooner on a GPU, and there is room for it.

        Args:
            free_bytes: Of the GPU's memory, beside the model and what else is to be there.
        """
        return self.size >= _GPU_SIZE and self.memory_bytes <= _GPU_SHARE * free_bytes

    @property
    def output_size(self) -> int:
        """Coordinates of the outputs: what the head can reach, and what the rows span."""
        return min(self._reached, self.rows)

    @property
    def accuracy(self) -> float:
        """How far rounding may put an eigenvalue off, as a share of the first one."""
        return _ROUNDING * math.sqrt(self.size)

    @property
    def memory_bytes(self) -> int:
        """The most that is allocated at once, from the pass over the samples to the artifacts.

        An upper bound; what is measured is between half and all of it.
        """
        folds = self.folds * self._sums(self.size, self._columns_of_fold)
        most = max(self._diagnosing(), self._holding_out() if self.held_out else 0)
        return _FLOAT64 * (folds + most + self._of_outputs()) + _OVERHEAD_BYTES

    @property
    def artifact_bytes(self) -> int:
        """Size of the moments as a file, and of the bases that they are in, where there are any."""
        basis = self.rows * self.p if self.method == "dual" else 0
        head = self.output_size * (self.p + 2) if self.output_size < self.c else 0
        return _FLOAT64 * (self._sums(self.size, self._columns(self.rows)) + basis + head)

    @property
    def _reached(self) -> int:
        """Dimensions of all outputs that the head can give."""
        return min(self.c, self.p + 1) if self.head else self.c

    def _columns(self, rows: int) -> int:
        """Target functions that sums of so many rows have a column for."""
        return min(self.d, rows) if self.by_class else self.d

    @property
    def _columns_of_fold(self) -> int:
        return self._columns(math.ceil(self.rows / self.folds))

    def _diagnosing(self) -> int:
        """Numbers beside the folds while the figures of the first probe are found."""
        columns = self._columns(self.rows)
        numbers = _SETS_BESIDE_FOLDS * self._sums(self.size, columns) + _MATRICES * self.size**2
        if self.method == "dual":
            numbers += _ROW_MATRICES * self.rows * self.p
        if self.by_class:
            numbers += _CLASS_MATRICES * self.size * columns
        return numbers

    def _holding_out(self) -> int:
        """Numbers beside those folds while the figures of a second probe are found."""
        q, columns = self.size, self._columns(self.rows)
        leading = min(self.d, q) + min(max(self.c, self.d), q)
        return (
            self.folds * self._sums(leading, self._columns_of_fold)
            + _HELD_OUT_SETS * self._sums(leading, columns)
            + 2 * self._sums(q, columns)
            + _MATRICES * q**2
            + (2 * self.rows * self.p if self.method == "dual" else 0)
        )

    def _of_outputs(self) -> int:
        """Numbers beside the sums where outputs are more than their coordinates."""
        reached, kept = self._reached, self.output_size
        numbers = 0
        if reached < self.c:
            numbers += _HEAD_MATRICES * self.c * reached + _BLOCK_VALUES
            numbers += self.folds * _GATHERED_ROWS * reached
        if kept < reached:
            numbers += _ROW_MATRICES * self.rows * reached
        return numbers + (_OUTPUT_MATRICES * kept**2 if kept < self.c else 0)

    def _sums(self, q: int, columns: int) -> int:
        """Numbers in one set of sums of so many features, with so many columns for targets."""
        c, d = self.output_size, self.d
        # Of classes: how many there are of each, their weights, and which the columns are of.
        of_targets = 2 * d + columns if self.by_class else d * (d + 2)
        return q * (q + c + columns + 1) + c * (c + columns + 1) + of_targets

    def most_rows(self, memory_bytes: int, artifact_bytes: int) -> int:
        """How many rows can be taken within these bounds, fewer than there are; 0 if none.

        With fewer rows than features the problem is another one, which kept rows make larger just
        below p; so as many as features and more are tried first.

        Args:
            memory_bytes: What may be allocated at once.
            artifact_bytes: The largest file.
        """
        for least, too_many in ((self.p, self.rows), (1, min(self.p, self.rows))):
            fitting = self._fitting(least, too_many, memory_bytes, artifact_bytes)
            if fitting:
                return fitting
        return 0

    def _fitting(self, least: int, too_many: int, memory_bytes: int, artifact_bytes: int) -> int:
        """The most rows from `least` on, fewer than `too_many`, that fit; 0 if none."""
        fitting = least - 1
        while too_many - fitting > 1:
            rows = (fitting + too_many) // 2
            smaller = replace(self, rows=rows)
            if smaller.memory_bytes <= memory_bytes and smaller.artifact_bytes <= artifact_bytes:
                fitting = rows
            else:
                too_many = rows
        return fitting if fitting >= least else 0

"""Memory cost and method of an analysis, known before it runs.

With fewer rows than features the dual problem is smaller in every respect, so the number of rows
alone decides the method; memory decides only whether the analysis is possible. Solving takes time
too. `eigh` of a p×p matrix takes about 0.45 ns·p³ on one thread: measured 0.48 s for p = 1024,
4.1 s for 2048 and 30 s for 4096, so 4 min for 8192. It runs once for the uncentred spectrum, from
which the centred one follows in a third of that time, and once for each of ten folds if there are
more than about p/40 outputs.
If the head is known, outputs cost as many coordinates as its range has dimensions, and classes cost
only if they occur: 10,000 classes at p = 512 take about as much as 513 outputs. What still grows
with the number of outputs and classes is the work on single rows: outputs for each k of the
compression curve, and distances to class means for each fold.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

Method = Literal["full", "dual"]

_FLOAT64 = 8
# Sets of sums at the memory peak, besides those of the folds: their total, its averages uncentred
# and centred, and what remains of these without a fold.
_SETS_BESIDE_FOLDS = 5
# Sets of sums of a second probe: the total, the total without a fold, its averages uncentred and
# centred, and copies.
_HELD_OUT_SETS = 6
# Matrices of the problem's size besides the sums: two of eigenvectors, and either the workspace of
# the dense solver or what leaving out a fold takes.
_MATRICES = 9
# Matrices of outputs by outputs, in coordinates: as given, centred, cleaned, without a fold, and
# eigenvectors.
_OUTPUT_MATRICES = 6
# Matrices of outputs by coordinates, if the head is known: its columns, the basis and the workspace
# of the factorization between them; later the basis and each eigenfunction's contribution to the
# outputs.
_HEAD_MATRICES = 4
# Matrices of features by classes: sums of all, without a fold, averages, centred ones, and class
# means.
_CLASS_MATRICES = 8
# Rows that each fold gathers, one more batch included; and values in blocks of rows by outputs.
_GATHERED_ROWS = 768
_BLOCK_VALUES = 4 << 22
# Matrices the size of the rows of features or outputs, if rows are kept: the basis, the
# eigenvectors in terms of features and their copies, or copies of the basis on its way into the
# artifact.
_ROW_MATRICES = 7
# What the allocator and the libraries keep for themselves, whatever the size of the problem.
_OVERHEAD_BYTES = 32 << 20
# From this many rows and columns on, a GPU is faster than a core. Below, launching thousands of
# small operations there takes longer than running them here.
_GPU_SIZE = 512
# Share of the GPU's free memory that may be used: its allocator rounds up, and the solver needs
# workspace.
_GPU_SHARE = 0.5
# Compared with a float64 SVD of the features, eigenvalues were off by 3 to 28 eps ρ_1 for matrices
# of 40 to 700 rows and columns: about √size · eps ρ_1. The factor 4 is a margin.
_ROUNDING = 4 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Problem:
    """Sizes that determine the memory cost of the figures.

    Attributes:
        rows: Number of rows of features: samples times positions.
        p: Number of features.
        c: Number of outputs.
        d: Number of targets per row; 0 without targets.
        folds: Number of disjoint parts that the samples are dealt to.
        by_class: Whether the targets are indicators of d classes, given as labels.
        head: Whether the linear layer that gives the outputs is known.
        held_out: Whether there is a second probe, which is assumed to be no larger than the first.
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
        """Dual with fewer rows than features: the smaller of the two problems."""
        return "dual" if self.rows < self.p else "full"

    @property
    def size(self) -> int:
        """Number of rows and columns of the matrix that is diagonalized."""
        return min(self.rows, self.p)

    def suits_gpu(self, free_bytes: int) -> bool:
        """Return whether a GPU would be faster and has room.

        Args:
            free_bytes: GPU memory that is free beside the model and whatever else it must hold.
        """
        return self.size >= _GPU_SIZE and self.memory_bytes <= _GPU_SHARE * free_bytes

    @property
    def output_size(self) -> int:
        """Number of coordinates of the outputs: at most what the head reaches and the rows span."""
        return min(self._reached, self.rows)

    @property
    def accuracy(self) -> float:
        """Largest error of an eigenvalue by rounding, as a share of the first one."""
        return _ROUNDING * math.sqrt(self.size)

    @property
    def memory_bytes(self) -> int:
        """Peak of allocated memory, from the pass over the samples to the artifacts.

        This is an upper bound; measured peaks are between half and all of it.
        """
        folds = self.folds * self._sums(self.size, self._columns_of_fold)
        most = max(self._diagnosing(), self._holding_out() if self.held_out else 0)
        return _FLOAT64 * (folds + most + self._of_outputs()) + _OVERHEAD_BYTES

    @property
    def artifact_bytes(self) -> int:
        """Size of the moments as a file, with the bases of their coordinates if there are any."""
        basis = self.rows * self.p if self.method == "dual" else 0
        head = self.output_size * (self.p + 2) if self.output_size < self.c else 0
        return _FLOAT64 * (self._sums(self.size, self._columns(self.rows)) + basis + head)

    @property
    def _reached(self) -> int:
        """Dimension of the space of outputs that the head can give."""
        return min(self.c, self.p + 1) if self.head else self.c

    def _columns(self, rows: int) -> int:
        """Return for how many target functions sums over that many rows have a column."""
        return min(self.d, rows) if self.by_class else self.d

    @property
    def _columns_of_fold(self) -> int:
        return self._columns(math.ceil(self.rows / self.folds))

    def _diagnosing(self) -> int:
        """Count the numbers held besides the folds while the first probe is diagnosed."""
        columns = self._columns(self.rows)
        numbers = _SETS_BESIDE_FOLDS * self._sums(self.size, columns) + _MATRICES * self.size**2
        if self.method == "dual":
            numbers += _ROW_MATRICES * self.rows * self.p
        if self.by_class:
            numbers += _CLASS_MATRICES * self.size * columns
        return numbers

    def _holding_out(self) -> int:
        """Count the numbers held besides those folds while a second probe is diagnosed."""
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
        """Count the numbers held besides the sums if outputs outnumber their coordinates."""
        reached, kept = self._reached, self.output_size
        numbers = 0
        if reached < self.c:
            numbers += _HEAD_MATRICES * self.c * reached + _BLOCK_VALUES
            numbers += self.folds * _GATHERED_ROWS * reached
        if kept < reached:
            numbers += _ROW_MATRICES * self.rows * reached
        return numbers + (_OUTPUT_MATRICES * kept**2 if kept < self.c else 0)

    def _sums(self, q: int, columns: int) -> int:
        """Count the numbers in one set of sums over q features, with that many target columns."""
        c, d = self.output_size, self.d
        # For classes: the count and the weight of each, and the class of each column.
        of_targets = 2 * d + columns if self.by_class else d * (d + 2)
        return q * (q + c + columns + 1) + c * (c + columns + 1) + of_targets

    def most_rows(self, memory_bytes: int, artifact_bytes: int) -> int:
        """Return how many rows, fewer than there are, fit within these bounds; 0 if none.

        With fewer rows than features, the dual problem keeps its rows, and just below p these take
        more memory than the sums would. So at least as many rows as features are tried first.

        Args:
            memory_bytes: Most memory that may be allocated at once.
            artifact_bytes: Size of the largest allowed file.
        """
        for least, too_many in ((self.p, self.rows), (1, min(self.p, self.rows))):
            fitting = self._fitting(least, too_many, memory_bytes, artifact_bytes)
            if fitting:
                return fitting
        return 0

    def _fitting(self, least: int, too_many: int, memory_bytes: int, artifact_bytes: int) -> int:
        """Return the most rows that fit, from `least` on and fewer than `too_many`; 0 if none."""
        fitting = least - 1
        while too_many - fitting > 1:
            rows = (fitting + too_many) // 2
            smaller = replace(self, rows=rows)
            if smaller.memory_bytes <= memory_bytes and smaller.artifact_bytes <= artifact_bytes:
                fitting = rows
            else:
                too_many = rows
        return fitting if fitting >= least else 0

"""What the figures of an analysis cost in memory, and how they are to be found, before it runs.

With fewer rows than features the dual problem is smaller in every respect, so rows decide the path
and memory only whether there is one. Solving takes time too. `eigh` of a p×p matrix takes about
0.45 ns·p³ on one thread: measured 0.48 s for p = 1024, 4.1 s for 2048 and 30 s for 4096, so 4 min
for 8192. It runs once for each of the two spectra, and once for each of ten folds where outputs are
more than about p/40.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

Method = Literal["full", "dual"]

_FLOAT64 = 8
# Sets of sums at the peak: those of the folds, their total, its averages and the centred ones.
_SETS_BESIDE_FOLDS = 3
# Matrices of the problem's size beside them: two of eigenvectors, and either what the dense solver
# works in or what leaving out a fold takes.
_MATRICES = 9
# Of the size of the rows, where these are kept: the basis, the eigenvectors in terms of features
# and their copies, or those of the basis on its way into the artifact.
_ROW_MATRICES = 7
# What the allocator and the libraries keep for themselves, whatever the size.
_OVERHEAD_BYTES = 32 << 20
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
    """

    rows: int
    p: int
    c: int
    d: int
    folds: int = 10

    @property
    def method(self) -> Method:
        """Dual where rows are fewer than features: the smaller of the two problems."""
        return "dual" if self.rows < self.p else "full"

    @property
    def size(self) -> int:
        """Rows and columns of the matrix that is diagonalized."""
        return min(self.rows, self.p)

    @property
    def accuracy(self) -> float:
        """How far rounding may put an eigenvalue off, as a share of the first one."""
        return _ROUNDING * math.sqrt(self.size)

    @property
    def memory_bytes(self) -> int:
        """The most that is allocated at once, from the pass over the samples to the artifacts.

        An upper bound; what is measured is between half and all of it.
        """
        matrices = _MATRICES * self.size**2
        if self.method == "dual":
            matrices += _ROW_MATRICES * self.rows * self.p
        sums = (self.folds + _SETS_BESIDE_FOLDS) * self._sums()
        return _FLOAT64 * (sums + matrices) + _OVERHEAD_BYTES

    @property
    def artifact_bytes(self) -> int:
        """Size of the moments as a file, and of the basis that they are in, where there is one."""
        basis = self.rows * self.p if self.method == "dual" else 0
        return _FLOAT64 * (self._sums() + basis)

    def _sums(self) -> int:
        """Numbers in one set of sums."""
        q, c, d = self.size, self.c, self.d
        return q * (q + c + d + 1) + c * (c + d + 1) + d * (d + 2)

    def most_rows(self, memory_bytes: int, artifact_bytes: int) -> int:
        """How many rows the dual problem can take within these bounds; 0 if none.

        Args:
            memory_bytes: What may be allocated at once.
            artifact_bytes: The largest file.
        """
        fitting, too_many = 0, self.p
        while too_many - fitting > 1:
            rows = (fitting + too_many) // 2
            smaller = replace(self, rows=rows)
            if smaller.memory_bytes <= memory_bytes and smaller.artifact_bytes <= artifact_bytes:
                fitting = rows
            else:
                too_many = rows
        return fitting

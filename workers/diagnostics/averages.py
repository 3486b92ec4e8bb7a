"""Inner products of features, outputs and targets: what every figure is computed from."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

# Centring subtracts ‖mean‖² from every second moment. What float32 features of that size can still
# tell apart is about (eps₃₂·‖mean‖)², and the rounding of the float64 sums lies below it (the
# factor 4 leaves room for sums over many batches). Centred eigenvalues under this floor are
# rounding, not signal.
CENTRING_NOISE = (4 * float(np.finfo(np.float32).eps)) ** 2


@dataclass(frozen=True, eq=False)
class Averages:
    """Inner products `⟨u|v⟩ = Σ_i w_i u(x_i) v(x_i) / Σ_i w_i` of features, outputs and targets.

    All tensors are float64. `p` features, `c` outputs, `d` targets (0 where there are none). Of
    class indicators there are only those of classes that occur, d of them here.

    Attributes:
        n: Number of samples.
        effective_n: `(Σw)² / Σw²`: as many samples of equal weight would leave as much to chance
            (Kish 1965); n where no sample was weighted.
        phi, f, y: Means `(p,)`, `(c,)`, `(d,)`; zeros when centred.
        phi_phi, f_f: Gram matrices `(p, p)` and `(c, c)`.
        y_y: Gram matrix `(d, d)` of values; None of class indicators, whose `shares` tell it.
        phi_f, phi_y: Cross products `(p, c)` and `(p, d)`.
        shares: Share of the weight that each class has, `(d,)`, centred or not; empty of values.
        phi_noise, f_noise, y_noise: Eigenvalues of the Gram matrices at or below these are
            rounding.
    """

    n: int
    effective_n: float
    phi: Tensor
    f: Tensor
    y: Tensor
    phi_phi: Tensor
    f_f: Tensor
    y_y: Tensor | None
    phi_f: Tensor
    phi_y: Tensor
    shares: Tensor
    phi_noise: float = 0.0
    f_noise: float = 0.0
    y_noise: float = 0.0

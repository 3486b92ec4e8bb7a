"""Centred kernel alignment of the features with targets, outputs and the minimal operator."""

from dataclasses import dataclass

from torch import Tensor

from workers.diagnostics.moments import Averages
from workers.diagnostics.projections import orthonormal_coefficients


@dataclass(frozen=True)
class Alignment:
    """Alignments of the feature operator; None where one side does not vary over the probe.

    Attributes:
        d_lr: `D_LR = 1 − CKA(T, T_MP)`, in [0, 1]: 0 minimal (rich), 1 lazy.
        cka_target: Linear CKA(Φ, Y), in [0, 1].
        cka_outputs: Linear CKA(Φ, F), in [0, 1].
    """

    d_lr: float | None
    cka_target: float | None
    cka_outputs: float | None


def align(averages: Averages, centered: Averages, *, output_tolerance: float) -> Alignment:
    """D_LR and linear CKA of the features (Nam et al. 2024, §3; Kornblith et al. 2019).

    D_LR compares T with the minimal projection operator `a_1|1⟩⟨1| + a_2 P_Ĥ`. CKA is centred, so
    with an orthonormal basis B of Ĥ, outputs as given, `CKA = ‖BᵀΦ_c‖²_F / (‖Φ_cᵀΦ_c‖_F
    ‖HBBᵀH‖_F)`.

    Args:
        averages: Inner products as given.
        centered: Inner products of the same samples without the mean.
        output_tolerance: Directions of the outputs that count, as a share of the first singular
            value.
    """
    learned = orthonormal_coefficients(averages.f_f, tolerance=output_tolerance)
    minimal = learned.T @ centered.f_f @ learned
    # A basis function that is constant up to rounding has nothing to align with.
    varies = bool((centered.f_f.diagonal() > centered.f_noise).any())
    similarity = _cka(centered, minimal, centered.phi_f @ learned) if varies else None
    return Alignment(
        d_lr=None if similarity is None else 1.0 - similarity,
        cka_target=_cka(centered, centered.y_y, centered.phi_y),
        cka_outputs=_cka(centered, centered.f_f, centered.phi_f) if varies else None,
    )


def _cka(centered: Averages, gram: Tensor, cross: Tensor) -> float | None:
    """`‖Φᵀu‖²_F / (‖ΦᵀΦ‖_F ‖uᵀu‖_F)` for centred functions u; None if Φ or u is constant."""
    variance, spread = centered.phi_phi.trace(), gram.trace()
    if variance <= 0 or spread <= 0:
        return None
    # Squares of ratios neither over- nor underflow, whatever the scale of the features is.
    features, functions = (centered.phi_phi / variance).norm(), (gram / spread).norm()
    if features * variance <= centered.phi_noise:
        return None
    shared = (cross / variance.sqrt() / spread.sqrt()).square().sum()
    return min(float(shared / (features * functions)), 1.0)

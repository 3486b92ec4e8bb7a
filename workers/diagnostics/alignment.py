"""Centred kernel alignment of the features with targets, outputs and the minimal operator."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from workers.diagnostics.averages import Averages
from workers.diagnostics.orthonormal import orthonormal_coefficients
from workers.diagnostics.target_space import indicators_gram_size


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
    minimal = _size(learned.T @ centered.f_f @ learned)
    # A basis function that is constant up to rounding has nothing to align with.
    varies = bool((centered.f_f.diagonal() > centered.f_noise).any())
    similarity = _cka(centered, minimal, centered.phi_f @ learned) if varies else None
    return Alignment(
        d_lr=None if similarity is None else 1.0 - similarity,
        cka_target=_cka(centered, _size_of_targets(centered), centered.phi_y),
        cka_outputs=_cka(centered, _size(centered.f_f), centered.phi_f) if varies else None,
    )


class _Size(NamedTuple):
    """Of a Gram matrix the trace, and its Frobenius norm as a share of the trace.

    Squares of ratios neither over- nor underflow, whatever the scale of the functions is.
    """

    trace: Tensor
    relative_norm: Tensor


def _size(gram: Tensor) -> _Size:
    trace = gram.trace()
    return _Size(trace, (gram / trace).norm())


def _size_of_targets(centered: Averages) -> _Size:
    if centered.y_y is not None:
        return _size(centered.y_y)
    trace, norm = indicators_gram_size(centered.shares)
    return _Size(trace, norm / trace)


def _cka(centered: Averages, size: _Size, cross: Tensor) -> float | None:
    """`‖Φᵀu‖²_F / (‖ΦᵀΦ‖_F ‖uᵀu‖_F)` for centred functions u; None if Φ or u is constant.

    Args:
        centered: Centred inner products.
        size: Of the functions' Gram matrix `⟨u_l|u_m⟩`.
        cross: `⟨Φ_k|u_l⟩`.
    """
    variance, features = _size(centered.phi_phi)
    if variance <= 0 or size.trace <= 0:
        return None
    if features * variance <= centered.phi_noise:
        return None
    shared = (cross / variance.sqrt() / size.trace.sqrt()).square().sum()
    return min(float(shared / (features * size.relative_norm)), 1.0)

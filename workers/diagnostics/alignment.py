"""Centred kernel alignment of the features with targets, outputs and the minimal operator."""

from dataclasses import dataclass

from torch import Tensor

from workers.diagnostics.averages import Averages, Size, size_of
from workers.diagnostics.figures import Values, figure, share, undefined
from workers.diagnostics.orthonormal import orthonormal
from workers.diagnostics.target_space import indicators_size


@dataclass(frozen=True)
class Alignment:
    """Alignments of the feature operator T; None where one side is constant over the probe.

    Attributes:
        d_lr: `D_LR = 1 − CKA(T, T_MP)`, in [0, 1]: 0 minimal (rich), 1 lazy.
        cka_target: Linear CKA(Φ, Y), in [0, 1].
        cka_outputs: Linear CKA(Φ, F), in [0, 1].
    """

    d_lr: float | None = figure(share)
    cka_target: float | None = figure(share)
    cka_outputs: float | None = figure(share)


def alignments(averages: Averages, centered: Averages, *, output_tolerance: float) -> Values:
    """Compute D_LR and linear CKA of the features (Nam et al. 2024, §3; Kornblith et al. 2019).

    D_LR compares T with the minimal projection operator `a_1|1⟩⟨1| + a_2 P_Ĥ`. CKA is centred: with
    the centred features Φ_c, the centring projection H and an orthonormal basis B of Ĥ (from
    uncentred outputs), `CKA = ‖BᵀΦ_c‖²_F / (‖Φ_cᵀΦ_c‖_F ‖HBBᵀH‖_F)`.

    Args:
        averages: Uncentred inner products; `phi_phi` is not read.
        centered: Centred inner products of the same samples.
        output_tolerance: `dim Ĥ` counts singular values of the outputs above this share of the
            first.

    Returns:
        The fields of `Alignment`.
    """
    learned = orthonormal(averages.f_f, tolerance=output_tolerance).coefficients
    minimal = size_of(learned.mT @ centered.f_f @ learned)
    # A basis function that is constant up to rounding cannot align with anything.
    varying = centered.f_f.diagonal(dim1=-2, dim2=-1) > centered.f_noise[..., None]
    constant = ~varying.any(-1)
    return {
        "d_lr": undefined(1.0 - _cka(centered, minimal, centered.phi_f @ learned), constant),
        "cka_target": _cka(centered, _size_of_targets(centered), centered.phi_y),
        "cka_outputs": undefined(_cka(centered, size_of(centered.f_f), centered.phi_f), constant),
    }


def _size_of_targets(centered: Averages) -> Size:
    return indicators_size(centered.shares) if centered.y_y is None else size_of(centered.y_y)


def _cka(centered: Averages, size: Size, cross: Tensor) -> Tensor:
    """Return `‖Φᵀu‖²_F / (‖ΦᵀΦ‖_F ‖uᵀu‖_F)` for centred functions u; NaN if Φ or u is constant.

    Args:
        centered: Centred inner products.
        size: Size of the functions' Gram matrix `⟨u_l|u_m⟩`.
        cross: `⟨Φ_k|u_l⟩`, `(..., p, m)`.
    """
    variance, norm = centered.phi_size
    constant = (variance <= 0) | (size.trace <= 0) | (norm * variance <= centered.phi_noise)
    scale = (variance.sqrt() * size.trace.sqrt())[..., None, None]
    shared = (cross / scale).square().sum((-2, -1))
    return undefined((shared / (norm * size.relative_norm)).clamp(max=1.0), constant)

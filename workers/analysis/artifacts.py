"""The files that an analysis produces besides its report."""

import numpy as np
import safetensors.numpy
import torch

from workers.analysis.evaluation import Evaluation
from workers.diagnostics import Diagnosis
from workers.extraction import FeatureMap

# For top_k = "auto": C eigenfunctions carry a minimal network, and the next C show what follows.
_KEPT_PER_OUTPUT = 2


def moments_file(evaluation: Evaluation, found: FeatureMap) -> bytes:
    """Return the sums that every figure comes from, as safetensors.

    Args:
        evaluation: The sums, and the bases of their coordinates.
        found: W and b, from which a reader recovers the basis of the outputs' coordinates.
    """
    arrays = evaluation.total().to_arrays()
    if evaluation.basis is not None:
        arrays["basis"] = evaluation.basis.contiguous().cpu().numpy()
    space = evaluation.space
    if space.basis is not None:
        arrays["f_mean"] = space.mean.cpu().numpy()
        if found.W is not None:
            # Not the basis itself: a language model's would be as large as its head, twice.
            columns = found.W if found.b is None else torch.cat([found.W, found.b[:, None]], 1)
            arrays["f_head"] = (space.basis.T.cpu() @ columns.double()).numpy()
    return safetensors.numpy.save(
        {name: np.asarray(array, order="C") for name, array in arrays.items()}
    )


def eigenfunctions_file(diagnosis: Diagnosis, evaluation: Evaluation, top_k: int | str) -> bytes:
    """Return the leading eigenfunctions on the kept rows, as safetensors: e_k(x) = v_kᵀΦ(x)/√ρ_k.

    Args:
        diagnosis: Eigenvalues and eigenvectors.
        evaluation: The kept rows.
        top_k: Number of eigenfunctions, or "auto" for two per output.
    """
    eigenvalues = diagnosis.spectrum.eigenvalues
    wanted = _KEPT_PER_OUTPUT * evaluation.space.outputs if top_k == "auto" else int(top_k)
    leading = slice(0, min(wanted, len(eigenvalues)))
    vectors = torch.from_numpy(np.ascontiguousarray(diagnosis.eigenvectors[:, leading]))
    projected = (evaluation.kept.rows().features.cpu().double() @ vectors).numpy()
    return safetensors.numpy.save(
        {
            "rows": evaluation.kept.sample_of,
            "positions": evaluation.kept.position_of,
            "eigenvalues": np.ascontiguousarray(eigenvalues[leading]),
            "values": np.ascontiguousarray(projected / np.sqrt(eigenvalues[leading])),
        }
    )

"""The files that come out of an analysis beside its report."""

import numpy as np
import safetensors.numpy
import torch

from workers.analysis.evaluation import Evaluation
from workers.diagnostics import Diagnosis
from workers.extraction import FeatureMap

# top_k = auto: where C eigenfunctions carry a minimal network, the next C show what follows.
_KEPT_PER_OUTPUT = 2


def moments_file(evaluation: Evaluation, found: FeatureMap) -> bytes:
    """Return the sums that every figure comes from, as safetensors.

    Args:
        evaluation: The sums, and what their coordinates belong to.
        found: W and b, which coordinates of outputs are told by.
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
        top_k: How many of them, or "auto" for two per output.
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

"""Orthonormal bases of what functions span, from their inner products."""

from torch import Tensor

from workers.diagnostics.linear_algebra import eigh


def orthonormal_coefficients(gram: Tensor, *, tolerance: float, noise: float = 0.0) -> Tensor:
    """Combinations of functions that are an orthonormal basis of their span.

    A Gram matrix has the squared condition number of its functions: a direction whose singular
    value is `s` of the first carries an error of about `eps₆₄/s²`, at most 2e-4 at a tolerance of
    1e-6 and 2e-10 at 1e-3. Float32 outputs are themselves uncertain by `eps₃₂/s`, which is larger.

    Args:
        gram: Inner products of `c` functions, `(c, c)`.
        tolerance: Directions with a singular value of at most this share of the first are left out.
        noise: Directions with an eigenvalue at or below this are left out.

    Returns:
        `(c, dim)`; column i holds the coefficients of the i-th basis function.
    """
    if not gram.shape[0]:
        return gram
    eigenvalues, vectors = eigh(gram)
    kept = eigenvalues > max(tolerance**2 * float(eigenvalues[-1]), noise, 0.0)
    coefficients: Tensor = vectors[:, kept] / eigenvalues[kept].sqrt()
    return coefficients

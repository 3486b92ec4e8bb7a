"""An eigenproblem that LAPACK gives up on is solved another way, or ends in a plain message."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from workers.diagnostics import DiagnosticsError, NonFiniteError
from workers.diagnostics.linear_algebra import eigh, eigvalsh

SIZE, RANK = 400, 7


def low_rank() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(SIZE, RANK, generator=generator, dtype=torch.float64)
    return factor @ factor.T


def assert_solved(matrix: torch.Tensor) -> None:
    values, vectors = eigh(matrix)
    expected = np.linalg.svd(matrix.numpy(), compute_uv=False)
    torch.testing.assert_close(values.flip(0)[:RANK], torch.from_numpy(expected[:RANK].copy()))
    assert bool((values.diff() >= 0).all())
    assert float(values[:-RANK].abs().max()) < 1e-12 * expected[0]
    identity = torch.eye(SIZE, dtype=torch.float64)
    torch.testing.assert_close(vectors.T @ vectors, identity, atol=1e-12, rtol=0)
    torch.testing.assert_close(vectors * values @ vectors.T, matrix, atol=1e-10, rtol=0)


class GivesUp:
    """A solver that stops without an answer so often, then does what it did."""

    def __init__(self, solver: Callable[..., object], times: int, error: type[Exception]) -> None:
        self.solver, self.times, self.error = solver, times, error

    def __call__(self, matrix: object) -> object:
        if self.times:
            self.times -= 1
            raise self.error("failed to converge")
        return self.solver(matrix)


def stop(monkeypatch: pytest.MonkeyPatch, *, torch_times: int, numpy_times: int) -> None:
    """Have the solvers give up, as they rarely do, and never when a test wants it."""
    error = torch.linalg.LinAlgError  # type: ignore[attr-defined]  # torch's
    for name in ("eigh", "eigvalsh"):
        solver = GivesUp(getattr(torch.linalg, name), torch_times, error)
        monkeypatch.setattr(torch.linalg, name, solver)
    solver = GivesUp(np.linalg.eigh, numpy_times, np.linalg.LinAlgError)
    monkeypatch.setattr(np.linalg, "eigh", solver)


@pytest.mark.parametrize("attempt", range(4))
def test_another_way_is_taken_until_one_converges(
    monkeypatch: pytest.MonkeyPatch, attempt: int
) -> None:
    stop(monkeypatch, torch_times=attempt, numpy_times=int(attempt > 1))
    assert_solved(low_rank())


def test_eigenvalues_alone_are_found_likewise(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = torch.linalg.eigvalsh(low_rank())
    stop(monkeypatch, torch_times=1, numpy_times=0)
    torch.testing.assert_close(eigvalsh(low_rank()), expected, atol=1e-11, rtol=1e-12)


def test_where_nothing_converges_it_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    stop(monkeypatch, torch_times=99, numpy_times=99)
    with pytest.raises(DiagnosticsError, match="400 × 400 matrix were not found"):
        eigh(low_rank())


def test_overflow_is_no_want_of_convergence() -> None:
    matrix = low_rank()
    matrix[4, 3] = torch.inf  # below the diagonal: solvers read no more
    with pytest.raises(NonFiniteError, match="overflow float64"):
        eigh(matrix)


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1.0, 1e150, 1e290])
def test_matrices_of_low_rank_and_any_scale_are_solved(scale: float) -> None:
    values = eigh(scale * low_rank())[0] / scale
    torch.testing.assert_close(values, eigh(low_rank())[0], atol=1e-9, rtol=1e-9)

"""Dense models: figures average over positions, evidence is counted in samples."""

import pytest
import torch
from samples import diagnosed

from workers.diagnostics import Diagnosis, Moments, TooFewSamplesError
from workers.diagnostics.diagonalization import diagonalize
from workers.diagnostics.explanation import unexplained
from workers.diagnostics.folds import Folds

CLASSES, FEATURES = 4, 40


def dealt(samples: int, positions: int) -> list[Moments]:
    """A minimal network, whose every sample has positions of several classes."""
    generator = torch.Generator().manual_seed(0)
    rows = samples * positions
    labels = torch.eye(CLASSES)[torch.randint(CLASSES, (rows,), generator=generator)]
    phi = labels @ torch.randn(CLASSES, FEATURES, generator=generator)
    phi = phi + 0.1 * torch.randn(rows, FEATURES, generator=generator)
    outputs = phi @ torch.linalg.lstsq(phi, labels).solution
    folds = Folds(samples, positions=positions)
    folds.update(phi, outputs, labels)
    return folds.moments()


def diagnosis(samples: int, positions: int) -> Diagnosis:
    return diagnosed(dealt(samples, positions), task="classification", positions=positions)


def test_positions_do_not_stand_for_samples() -> None:
    few = diagnosis(60, 16)
    assert few.verdict.regime == "undetermined"
    assert "Too few samples to judge: 60, and the rule needs 100" in few.verdict.reasons[0]
    assert any("Few samples: 60." in warning for warning in few.verdict.warnings)
    assert diagnosed(dealt(60, 16), task="classification").verdict.regime == "MF"
    assert diagnosis(600, 16).verdict.regime == "MF"
    assert diagnosis(600, 16).verdict.warnings == ()


def test_figures_are_those_of_the_rows() -> None:
    folds = dealt(200, 16)
    by_samples = diagnosed(folds, task="classification", positions=16)
    by_rows = diagnosed(folds, task="classification")
    assert by_samples.n == by_rows.n == 3200
    assert by_samples.verdict.minimality == by_rows.verdict.minimality
    assert by_samples.spectrum.eigenvalues.tolist() == by_rows.spectrum.eigenvalues.tolist()


def test_nine_samples_are_too_few_however_many_positions_they_have() -> None:
    with pytest.raises(TooFewSamplesError, match="has 9 samples"):
        diagnosis(9, 1000)


def test_features_may_span_more_dimensions_than_there_are_samples() -> None:
    found = diagnosis(20, 50)
    assert found.spectrum.rank == FEATURES
    assert not any("Saturated" in warning for warning in found.verdict.warnings)
    assert any("Fewer samples (20) than features (40)" in w for w in found.verdict.warnings)


def test_many_rows_do_not_cut_the_spectrum() -> None:
    """A million rows keep a singular value of 1e-6 of the first; their number bounds the rank."""
    gram = torch.diag(torch.tensor([1.0, 1e-12], dtype=torch.float64))
    assert diagonalize(gram, rows=1_000_000).rank == 2
    assert diagonalize(gram, rows=2).rank == 2
    assert diagonalize(gram, rows=1).rank == 1


def test_outputs_of_weak_features_are_explained_however_many_positions_there_are() -> None:
    """A thousand alike positions a sample change no inner product, and no figure."""
    phi = torch.randn(1000, 2, dtype=torch.float64) * torch.tensor([1.0, 0.01])
    once = Moments.zeros(2, 1)
    once.update(phi, phi[:, 1:])
    arrays = {name: 1000 * sums for name, sums in once.to_arrays().items()}
    often = Moments.from_arrays(arrays)
    assert unexplained(often) == pytest.approx(unexplained(once), abs=1e-6)
    assert unexplained(once) == pytest.approx(0, abs=1e-6)


def test_samples_of_different_numbers_of_rows_are_counted_one_by_one() -> None:
    generator = torch.Generator().manual_seed(1)
    sizes = torch.randint(1, 8, (60,), generator=generator)
    labels = torch.eye(CLASSES)[torch.randint(CLASSES, (int(sizes.sum()),), generator=generator)]
    phi = labels @ torch.randn(CLASSES, FEATURES, generator=generator)
    folds = Folds(60, positions=sizes)
    folds.update(phi, phi[:, :CLASSES], labels)
    positions = float(sizes.double().mean())
    found = diagnosed(folds.moments(), task="classification", positions=positions)
    assert found.n == int(sizes.sum())
    assert "Too few samples to judge: 60" in found.verdict.reasons[0]

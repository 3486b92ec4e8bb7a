"""Average precision against scikit-learn's, ties and all."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from workers.diagnostics import RankedLabels, average_precision, ranking
from workers.diagnostics.intervals import jackknife_interval


def ranked(scores: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> RankedLabels:
    return RankedLabels(*(torch.from_numpy(array) for array in (scores, labels, folds)))


def oracle(scores: np.ndarray, labels: np.ndarray) -> float:
    """The mean over labels that some sample has."""
    some = labels.any(0)
    return float(average_precision_score(labels[:, some], scores[:, some], average="macro"))


@given(
    st.integers(2, 40),
    st.integers(1, 5),
    st.integers(1, 6),
    st.floats(0.1, 0.9),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_of_any_scores(n: int, count: int, levels: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (n, count)).astype(np.float32)  # mostly ties
    labels = rng.random((n, count)) < share
    folds = rng.permutation(n) % 2
    found = average_precision(ranked(scores, labels, folds))
    if not labels.any():
        assert found.value is None
        return
    assert found.value == pytest.approx(oracle(scores, labels), abs=1e-12)


def test_its_interval_is_the_jackknife_over_folds() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random((300, 4)) < 0.3
    scores = (labels + rng.standard_normal(labels.shape)).astype(np.float16)
    folds = rng.permutation(300) % 10
    found = average_precision(ranked(scores, labels, folds))
    left_out = [oracle(scores[folds != j], labels[folds != j]) for j in range(10)]
    expected = jackknife_interval(oracle(scores, labels), left_out, [30] * 10, lowest=0, highest=1)
    assert found.confidence_interval == pytest.approx(expected, abs=1e-12)


def test_many_labels_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "_VALUES_AT_ONCE", 500 * 130)
    rng = np.random.default_rng(0)
    labels = rng.random((500, 300)) < 0.02
    scores = (labels + rng.standard_normal(labels.shape)).astype(np.float32)
    found = average_precision(ranked(scores, labels, np.arange(500) % 2))
    assert found.value == pytest.approx(oracle(scores, labels), abs=1e-9)


def test_decisions_and_infinite_scores_are_ranked_too() -> None:
    labels = np.array([[True], [False], [True], [False]])
    folds = np.arange(4) % 2
    decided = np.array([[True], [True], [False], [False]])
    assert average_precision(ranked(decided, labels, folds)).value == 0.5
    scores = np.array([[np.inf], [1.0], [2.0], [-np.inf]])
    assert average_precision(ranked(scores, labels, folds)).value == 1.0

"""Skill: how far answers are from guessing towards perfect, and how sure that is."""

import numpy as np
import pytest
import torch
from samples import measured

from workers.diagnostics import Evidence, Moments
from workers.diagnostics.evidence import gather
from workers.diagnostics.performance import Task
from workers.diagnostics.projections import Projections

FOLDS = 10


def evidence(
    outputs: torch.Tensor, targets: torch.Tensor, *, task: Task, scored: bool = True
) -> Evidence:
    folds, performances = [], []
    for rows in torch.arange(len(outputs)).split(len(outputs) // FOLDS):
        moments = Moments.zeros(1, outputs.shape[1], targets.shape[1])
        moments.update(outputs[rows, :1], outputs[rows], targets[rows])
        folds.append(moments)
        performances.append(measured(outputs[rows], targets[rows], task))
    projections = Projections(
        quality=None,
        utilization=np.zeros(0),
        cumulative_quality=None,
        cumulative_utilization=np.zeros(0),
        quality_chance_level=None,
        dim_target=None,
        dim_learned=0,
        quality_at_dim_target=None,
        quality_at_dim_target_chance=None,
    )
    return gather(projections, performances if scored else [], folds, task=task)


def classified(right: int, n: int = 1000) -> Evidence:
    """Of `n` samples, 40 % of the first class of four, so many are told right."""
    labels = torch.arange(n) % 5 % 4
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    told = torch.where(torch.argsort(order) < right, labels, (labels + 1) % 4)
    indicators = torch.eye(4, dtype=torch.float64)
    return evidence(5 * indicators[told], indicators[labels], task="classification")


def test_guessing_the_largest_class_is_no_skill_and_perfect_answers_are_all_of_it() -> None:
    assert classified(400).skill == pytest.approx(0)
    assert classified(100).skill == pytest.approx(-0.5)
    assert classified(1000).skill == 1


def test_the_interval_is_that_of_accuracy() -> None:
    interval = classified(1000).skill_interval
    assert interval == pytest.approx((1 - 0.003827 / 0.6, 1), abs=1e-6)
    low, high = classified(700).skill_interval or (0, 0)
    assert low < 0.5 < high
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.7 * 0.3 / 1000) / 0.6, rel=0.01)


def fitted(seed: int, n: int = 500) -> Evidence:
    """Values of which half the variance is told."""
    generator = torch.Generator().manual_seed(seed)
    outputs, noise = torch.randn(2, n, 2, generator=generator, dtype=torch.float64)
    return evidence(outputs, outputs + noise + 7, task="regression")


def test_of_a_regression_it_is_the_share_of_variance_explained() -> None:
    outputs = torch.randn(500, 2, dtype=torch.float64)
    assert evidence(outputs, outputs, task="regression").skill == pytest.approx(1)
    mean = outputs.mean(0).expand(500, 2)
    assert evidence(mean, outputs, task="regression").skill == pytest.approx(0, abs=1e-12)
    assert evidence(outputs, mean, task="regression").skill is None
    assert evidence(outputs, outputs, task="regression", scored=False).skill is None


def test_intervals_of_a_regression_cover_the_truth() -> None:
    """With an offset that the answers miss, R² = 1 − (1 + 49)/2."""
    found = [fitted(seed) for seed in range(200)]
    intervals = [each.skill_interval for each in found]
    held = [low <= 1 - 50 / 2 <= high for low, high in filter(None, intervals)]
    assert len(held) == 200
    assert 0.92 - 0.016 <= np.mean(held) <= 0.98 + 0.016

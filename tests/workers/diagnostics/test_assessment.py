"""The second axis: minimal but poor, extended but accurate."""

from dataclasses import replace

import pytest
import torch
from samples import diagnosed, measured

from workers.diagnostics import (
    CompressedModel,
    Evidence,
    Moments,
    Regime,
    assess,
)


def evidence(
    quality: float | None = 0.6, skill: float | None = 0.9, *, held_out: bool = False
) -> Evidence:
    return Evidence(
        quality=quality,
        quality_chance=None if quality is None else 0.2,
        dim_target=None if quality is None else 10,
        skill=skill,
        held_out=held_out,
        quality_interval=None if quality is None else (0.3, 0.7),
        skill_interval=None if skill is None else (0.8, 1.0),
    )


@pytest.mark.parametrize(
    ("of_values", "words"),
    [(False, "may number the classes in another order"), (True, "may be on another scale")],
)
def test_features_that_hold_the_target_and_answers_that_do_not(of_values: bool, words: str) -> None:
    (warning,) = assess("MF", replace(evidence(0.9, -0.5), of_values=of_values)).warnings
    assert words in warning


@pytest.mark.parametrize(
    ("regime", "quality", "skill", "summary"),
    [
        ("MF", 0.41, 0.0, "minimal and good"),
        ("MF", 0.39, 0.9, "minimal but poor"),
        ("EF", 0.2, 0.51, "extended but accurate"),
        ("EF", 0.9, 0.49, "extended and inaccurate"),
        ("undetermined", 0.6, 0.9, None),
        ("MF", None, None, None),
        ("EF", None, None, None),
    ],
)
def test_both_axes_in_words(
    regime: Regime, quality: float | None, skill: float | None, summary: str | None
) -> None:
    found = assess(regime, evidence(quality, skill))
    assert found.summary == summary
    assert bool(found.reasons) == (quality is not None)
    if summary is not None:
        assert found.reasons[0].lower().startswith(summary)


def test_reasons_hold_the_figures_and_name_the_probe() -> None:
    found = assess("MF", evidence(0.6, 0.9, held_out=True))
    (reason,) = found.reasons
    assert reason == (
        "Minimal and good: on the held-out probe the first 10 eigenfunctions hold 60.0% of the "
        "target, 20.0% by chance; from guessing to perfect, the answers come 90.0% of the way. "
        "Neither enters the regime."
    )
    assert found.quality_corrected == pytest.approx(0.5)


def test_intervals_are_those_of_the_evidence() -> None:
    found = assess("MF", evidence()).confidence_interval
    assert found["quality"] == (0.3, 0.7)
    assert found["quality_corrected"] == pytest.approx((0.125, 0.625))
    assert found["skill"] == (0.8, 1.0)
    assert found["k99_agreement"] is None
    assert set(assess("MF", evidence(None, None)).confidence_interval.values()) == {None}


def test_answers_worse_than_guessing_are_said_without_a_share() -> None:
    (reason,) = assess("EF", evidence(0.3, -0.058)).reasons
    assert "target, 20.0% by chance; the answers are no better than guessing. Neither" in reason


def test_good_features_with_guessed_answers_are_warned_of() -> None:
    assert "another order" in assess("MF", evidence(0.8, -0.1)).warnings[0]
    assert assess("MF", evidence(0.8, 0.9)).warnings == ()
    assert assess("MF", evidence(0.3, -0.1)).warnings == ()


@pytest.mark.parametrize(
    ("agreements", "needed"),
    [
        ((0.1, 0.98, 0.99, 1.0), 2),
        ((0.1, 0.995, 0.9, 1.0), 3),  # it has to stay there
        ((1.0, 1.0), 0),
        ((0.1, 0.98), None),
        ((None, None), None),
        ((), None),
    ],
)
def test_features_that_keep_the_answers(
    agreements: tuple[float | None, ...], needed: int | None
) -> None:
    curve = [CompressedModel(k, None, kept, 0.0) for k, kept in enumerate(agreements)]
    found = assess("MF", evidence(), curve=curve, trials=1000)
    assert found.k99_agreement == needed
    if needed is not None:
        sentence = f"The first {needed} of {len(curve) - 1} eigenfunctions keep 99% of the answers."
        assert found.reasons[-1] == sentence


def test_few_rows_leave_open_how_many_features_keep_the_answers() -> None:
    curve = [
        CompressedModel(k, None, kept, 0.0) for k, kept in enumerate((0.5, 0.985, 0.992, 0.999, 1))
    ]

    def interval(trials: int) -> tuple[float, float] | None:
        found = assess("MF", evidence(), curve=curve, trials=trials)
        assert found.k99_agreement == 2
        return found.confidence_interval["k99_agreement"]

    assert interval(100_000) == (2, 2)
    assert interval(2000) == (2, 3)  # 99.2 % of 2,000 may be 98.7 %
    assert interval(500) == (1, 3)
    assert interval(100) == (1, 4)  # all eigenfunctions are the model itself


def test_accuracy_and_quality_never_enter() -> None:
    """The same network with its labels shuffled gets the same verdict."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.eye(4)[torch.arange(1000) % 4]
    phi = labels @ torch.randn(4, 40, generator=generator)
    phi = phi + 0.1 * torch.randn(1000, 40, generator=generator)
    outputs = phi @ torch.linalg.lstsq(phi, labels).solution
    verdicts, assessed = [], []
    for targets in (labels, labels[torch.randperm(1000, generator=generator)]):
        folds = [Moments.zeros(40, 4, 4) for _ in range(10)]
        for i, fold in enumerate(folds):
            rows = slice(100 * i, 100 * (i + 1))
            fold.update(phi[rows], outputs[rows], targets[rows])
        performances = [
            measured(outputs[rows], targets[rows], "classification")
            for rows in torch.arange(1000).split(100)
        ]
        found = diagnosed(folds, task="classification", performances=performances)
        verdicts.append(found.verdict)
        assessed.append(assess(found.verdict.regime, found.evidence))
    true, shuffled = verdicts
    assert true.regime == shuffled.regime == "MF"
    assert true.minimality == shuffled.minimality
    assert [each.summary for each in assessed] == ["minimal and good", "minimal but poor"]

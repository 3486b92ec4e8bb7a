"""Numbers that cards and pages quote are those in force."""

import re
from dataclasses import asdict
from importlib.resources import files

import pytest

from service.contract.options import Options
from service.contract.rule import RULE_VERSION, THRESHOLDS
from service.report.card import MetricCard, bound
from service.report.document import CARDS
from service.report.thresholds import Thresholds
from workers.analysis.rows import KEPT_ROWS
from workers.diagnostics import MIN_SAMPLES


def page(name: str) -> str:
    """The prose of a page of the guide, on one line."""
    text = files("service.guide").joinpath(f"pages/{name}.md").read_text("utf-8")
    return " ".join(text.split())


def text(card: MetricCard) -> str:
    return " ".join(asdict(card).values())


def test_a_report_explains_every_threshold_of_the_rule() -> None:
    assert Thresholds.model_fields.keys() == asdict(THRESHOLDS).keys()


@pytest.mark.parametrize(
    ("value", "written"), [(0.9, "0.90"), (0.755, "0.755"), (0.12, "0.12"), (2.0, "2.00")]
)
def test_a_bound_has_two_decimals_or_more(value: float, written: str) -> None:
    assert bound(value) == written


def test_the_card_of_the_regime_states_the_rule_in_force() -> None:
    stated = re.findall(r"[≥≤] ([\d.]*\d)", CARDS["verdict.regime"].formula)
    assert [float(each) for each in stated] == [
        THRESHOLDS.mf_utilization,
        THRESHOLDS.mf_energy,
        THRESHOLDS.mf_distance,
        THRESHOLDS.mf_greatest_distance,
        THRESHOLDS.ef_utilization,
        THRESHOLDS.ef_energy,
        THRESHOLDS.ef_distance,
        THRESHOLDS.ef_certain_distance,
    ]


def test_cards_name_no_rule_but_the_one_in_force() -> None:
    named = {rule for card in CARDS.values() for rule in re.findall(r"UED-\d+", text(card))}
    assert named == {RULE_VERSION}


@pytest.mark.parametrize(
    ("key", "option"),
    [
        ("verdict.minimality.rank", "verdict_tolerance"),
        ("projections.dim_learned", "output_tolerance"),
    ],
)
def test_cards_quote_the_tolerance_that_an_option_leaves(key: str, option: str) -> None:
    (quoted,) = re.findall(r"> (\S+) · s_1", CARDS[key].formula)
    assert float(quoted) == Options.model_fields[option].default


def test_cards_quote_the_sizes_that_workers_use() -> None:
    assert CARDS["probe.n"].range == f"≥ {MIN_SAMPLES}"
    quoted = {
        number
        for card in CARDS.values()
        for number in re.findall(r"same random ([\d,]+)", text(card))
    }
    assert quoted == {f"{KEPT_ROWS:,}"}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("features", f"With fewer than {THRESHOLDS.min_rank_ratio:g}r directions the width alone"),
        ("report", f"fewer than {THRESHOLDS.min_rank_ratio:g}·r directions are `undetermined`"),
        (
            "features",
            f"Below {THRESHOLDS.min_samples}, or {THRESHOLDS.min_samples_per_dimension} for each",
        ),
        ("features", f"below {THRESHOLDS.warn_samples} intervals are wide"),
        ("features", f"Send {THRESHOLDS.warn_samples} or more"),
    ],
)
def test_pages_quote_the_rule_in_force(name: str, sentence: str) -> None:
    assert sentence in page(name)

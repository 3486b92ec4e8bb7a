"""From reports to the rows of a table."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import earlier_rule
from .catalogue import Experiment

_NEARLY_ALL = 0.95
_ROUNDING = 1e-9

HEADINGS = (
    "network",
    "epoch",
    "regime",
    earlier_rule.NAME,
    "expected",
    "accuracy",
    "U'",
    "Ũ'",
    "E",
    "D",
    "raw D_LR",
    "k95 / r",
    "raw k95",
    "Π*(C)",
)


@dataclass(frozen=True)
class Figures:
    """What the table takes from one report; None for what that does not have.

    `tapered`: Ũ'. `earlier`: the regime by the rule before this one. `poor`: Π*(C) is hardly above
    its chance level, whatever the regime.
    """

    accuracy: float | None
    utilization: float | None
    tapered: float | None
    energy: float | None
    distance: float | None
    d_lr: float | None
    rank: int
    k95: int | None
    raw_k95: int | None
    quality: float | None
    regime: str
    earlier: str
    poor: bool

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> "Figures":
        verdict, projections = report["verdict"], report["projections"]
        minimality = verdict["minimality"]
        return cls(
            accuracy=report["performance"]["accuracy"],
            utilization=minimality["utilization_corrected"],
            tapered=minimality["utilization_tapered"],
            energy=minimality["energy"],
            distance=minimality["distance"],
            d_lr=report["alignment"]["d_lr"],
            rank=minimality["rank"],
            k95=minimality["k95_utilization"],
            raw_k95=reached(projections["cumulative_utilization"], _NEARLY_ALL),
            quality=projections["quality_at_dim_target"],
            regime=verdict["regime"],
            earlier=earlier_rule.regime(report),
            poor=_poor(projections, verdict["thresholds"]["poor_quality"]),
        )


@dataclass(frozen=True)
class Row:
    """One checkpoint of one experiment, by probe."""

    experiment: Experiment
    epoch: int
    reports: Mapping[str, Mapping[str, Any]]

    @property
    def figures(self) -> dict[str, Figures]:
        return {probe: Figures.of(report) for probe, report in self.reports.items()}

    @property
    def expected(self) -> str | None:
        return self.experiment.expected.get(self.epoch)

    @property
    def as_expected(self) -> bool | None:
        """Whether the verdict on the train probe is the expected one; None without one.

        Whether it is poor shows on fresh samples, so that is read from the test probe.
        """
        if self.expected is None:
            return None
        regime, *poor = self.expected.split(", ")
        found = self.figures
        return found["train"].regime == regime and (not poor or found["test"].poor)

    @property
    def was_as_expected(self) -> bool | None:
        """The same of the earlier rule's regime."""
        if self.expected is None:
            return None
        return self.figures["train"].earlier == self.expected.split(", ")[0]


def _poor(projections: Mapping[str, Any], bound: float) -> bool:
    quality, chance = (projections[f"quality_at_dim_target{part}"] for part in ("", "_chance"))
    return quality is not None and (quality - chance) / (1 - chance) < bound


def reached(cumulative: Sequence[float], bound: float) -> int | None:
    """Return how many entries it takes to reach a bound; None if all are below it."""
    counted = enumerate(cumulative, 1)
    return next((k for k, value in counted if value >= bound - _ROUNDING), None)


def rows(experiments: Sequence[Experiment], reports: Path) -> Iterator[Row]:
    """Yield a row for each checkpoint that has reports on its train and its test probe.

    Args:
        experiments: In the order of the table.
        reports: Directory with `EXPERIMENT/EPOCH-PROBE.json`.
    """
    for experiment in experiments:
        by_epoch: dict[int, dict[str, Any]] = {}
        for file in sorted((reports / experiment.name).glob("*.json")):
            epoch, _, probe = file.stem.partition("-")
            by_epoch.setdefault(int(epoch), {})[probe] = json.loads(file.read_text())
        for trained, by_probe in sorted(by_epoch.items()):
            if by_probe.keys() >= {"train", "test"}:
                yield Row(experiment, trained, by_probe)


def markdown(found: Sequence[Row]) -> str:
    """Lay rows out as a table: train · test in each cell, and other probes in lines below."""
    return table(HEADINGS, [line for row in found for line in texts(row)])


def table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table."""
    rule = ["---"] * len(headings)
    return "".join(f"| {' | '.join(line)} |\n" for line in (headings, rule, *lines))


def number(value: float | None, digits: int = 2) -> str:
    """Write a number for people, a dash for None."""
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.{digits}f}"


def texts(row: Row) -> Iterator[list[str]]:
    """Yield the lines of one row, in the order of `HEADINGS`."""
    figures = row.figures
    yield _line(row, [figures.pop("train"), figures.pop("test")], _expectation(row))
    for probe, of_probe in figures.items():
        yield _line(row, [of_probe], f"(probe: {probe})")


def _line(row: Row, pair: Sequence[Figures], remark: str) -> list[str]:
    return [
        row.experiment.title,
        str(row.epoch),
        " · ".join(dict.fromkeys(map(_regime, pair))),
        " · ".join(dict.fromkeys(each.earlier for each in pair)),
        remark,
        _pair(pair, "accuracy", 3),
        _pair(pair, "utilization"),
        _pair(pair, "tapered"),
        _pair(pair, "energy"),
        _pair(pair, "distance"),
        _pair(pair, "d_lr", 3),
        " · ".join(f"{number(each.k95)}/{each.rank}" for each in pair),
        _pair(pair, "raw_k95"),
        _pair(pair, "quality"),
    ]


def _regime(figures: Figures) -> str:
    return "MF, poor" if figures.regime == "MF" and figures.poor else figures.regime


def _expectation(row: Row) -> str:
    if row.expected is None:
        return ""
    return row.expected if row.as_expected else f"{row.expected} ✗"


def _pair(pair: Sequence[Figures], name: str, digits: int = 2) -> str:
    return " · ".join(number(getattr(figures, name), digits) for figures in pair)

"""What follows from where a figure is declared: intervals, twins and keys."""

from dataclasses import fields, replace
from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError

from service.report.card import MetricCard, interval
from service.report.figures import Figure, Intervals, Part, mounted, twin, with_intervals

CARD = MetricCard(*("text" for _ in fields(MetricCard)))


def titled(title: str) -> MetricCard:
    return replace(CARD, title=title)


def bent(card: MetricCard) -> MetricCard:
    return titled(f"bent {card.title}")


class Inner(Part):
    size: Annotated[int, Figure(titled("size"), interval)]


@with_intervals(Inner, later={"old"})
class Sample(Part):
    plain: Annotated[float, Field(ge=0), Figure(titled("plain"))]
    old: Annotated[float, Figure(titled("old"), interval)]
    new: Annotated[float | None, Figure(titled("new"), interval)] = None
    inner: Inner
    confidence_interval: Intervals | None = None


@with_intervals()
@twin(bent, bent)
class BentSample(Sample):
    own: Annotated[float, Figure(titled("own"), interval)]
    confidence_interval: Intervals | None = None


def intervals_of(part: type[Part]) -> Any:
    (found,) = (
        each
        for each in part.model_fields["confidence_interval"].annotation.__args__
        if each is not type(None)
    )
    return found


def test_each_figure_with_an_interval_has_its_entry() -> None:
    found = intervals_of(Sample)
    assert found.__name__ == "SampleIntervals"
    assert {name: figure.card.title for name, figure in found.figures.items()} == {
        name: f"95 % interval of: {name}" for name in ("old", "new", "size")
    }


def test_an_entry_may_be_missing_where_reports_lack_the_figure_or_had_it_first() -> None:
    found = intervals_of(Sample)
    assert found.model_validate({"size": (0.0, 1.0)}).old is None
    with pytest.raises(ValidationError, match="size"):
        found.model_validate({"old": (0.0, 1.0), "new": (0.0, 1.0)})


def test_a_twin_describes_anew_what_it_inherits() -> None:
    titles = {name: figure.card.title for name, figure in BentSample.figures.items()}
    assert titles == {"plain": "bent plain", "old": "bent old", "new": "bent new", "own": "own"}
    assert {n: figure.card.title for n, figure in intervals_of(BentSample).figures.items()} == {
        "old": "bent 95 % interval of: bent old",
        "new": "bent 95 % interval of: bent new",
        "own": "95 % interval of: own",
    }
    assert Sample.figures["plain"].card.title == "plain"
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        BentSample.model_validate({"plain": -1.0, "old": 0.0, "own": 0.0, "inner": {"size": 1}})


def test_keys_are_where_parts_are_mounted() -> None:
    class Entries(Part):
        of_each: Annotated[dict[str, float], Field(max_length=3), Figure(CARD)]

    class Listed(Part):
        entries: Entries | None = None

    class Root(Part):
        sample: Sample
        listed: Annotated[list[Listed], Field(max_length=2)] | None

    assert set(mounted(Root)) == {
        "sample.plain",
        "sample.old",
        "sample.new",
        "sample.inner.size",
        "sample.confidence_interval.old",
        "sample.confidence_interval.new",
        "sample.confidence_interval.size",
        "listed.*.entries.of_each.*",
    }
    schema = Root.model_json_schema()
    plain = schema["$defs"]["Sample"]["properties"]["plain"]
    assert (plain["minimum"], plain["title"], plain["description"]) == (0, "plain", "text")
    assert plain["x-metric-card"]["key"] == "sample.plain"
    each = schema["$defs"]["Entries"]["properties"]["of_each"]["additionalProperties"]
    assert each["x-metric-card"]["key"] == "listed.*.entries.of_each.*"


def test_a_part_with_figures_has_one_place() -> None:
    class Once(Part):
        size: Annotated[int, Figure(CARD)]

    class Root(Part):
        first: Once
        second: Once

    with pytest.raises(ValueError, match="Once is in two places: first and second"):
        mounted(Root)


def test_two_intervals_of_one_name_are_refused() -> None:
    class Outer(Part):
        size: Annotated[int, Figure(CARD, interval)]
        inner: Inner
        confidence_interval: Intervals

    with pytest.raises(ValueError, match="Outer has two intervals named size"):
        with_intervals(Inner)(Outer)


def test_what_came_later_has_to_have_an_interval() -> None:
    class Outer(Part):
        size: Annotated[int, Figure(CARD)]
        confidence_interval: Intervals

    with pytest.raises(ValueError, match="Outer has no interval of size"):
        with_intervals(later={"size"})(Outer)

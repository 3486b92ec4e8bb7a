"""Parts of the report, and the figures that they declare.

A part declares a figure as `Annotated[type, Figure(card, interval)]`. All else follows from there:
its title, description and card in the JSON Schema, its entry in `confidence_interval`, and the same
figure in twins of the part.
"""

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, create_model
from pydantic.fields import FieldInfo

from service.report.card import MetricCard
from service.report.parts import Interval

Derivation = Callable[[MetricCard], MetricCard]


@dataclass(frozen=True)
class Figure:
    """What makes a field of a part a figure.

    Attributes:
        card: What it means.
        interval: Derives the card of its 95 % interval; None if it has no interval.
    """

    card: MetricCard
    interval: Derivation | None = None


def _render_cards(schema: dict[str, Any], part: type["Part"]) -> None:
    """Write the cards of a part's figures into its JSON Schema."""
    for name, figure in part.figures.items():
        described = schema["properties"][name]
        described["title"] = figure.card.title
        # Of a mapping each entry is described.
        described = described.get("additionalProperties", described)
        described["description"] = figure.card.definition
        described["x-metric-card"] = {"key": _key(part, name), **asdict(figure.card)}


def _own_fields(part: type["Part"]) -> set[str]:
    """Return the names of the fields that a part declares itself."""
    return part.model_fields.keys() & inspect.get_annotations(part).keys()


def _declared(field: FieldInfo) -> Figure | None:
    return next((each for each in field.metadata if isinstance(each, Figure)), None)


class Part(BaseModel):
    """What all parts of a report share: no unknown fields, no coercion, no NaN or infinity.

    Attributes:
        figures: What the part declares or inherits, by the name of the field.
        place: Dotted path of the part in the report, `*` for the entries of a list; known once the
            report is declared.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        json_schema_extra=_render_cards,
    )
    figures: ClassVar[Mapping[str, Figure]] = {}
    place: ClassVar[str]

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Collect the figures of a new part."""
        inherited: dict[str, Figure] = {}
        for base in reversed(cls.__bases__):
            inherited |= base.figures if issubclass(base, Part) else {}
        own = _own_fields(cls)
        found = {
            name: _declared(field) if name in own else inherited.get(name)
            for name, field in cls.model_fields.items()
        }
        cls.figures = {name: figure for name, figure in found.items() if figure is not None}


class Intervals(Part):
    """95 % intervals of figures; null where one is undefined, on all samples or without a fold."""


AnyPart = TypeVar("AnyPart", bound=Part)


def twin(
    card: Derivation, interval: Derivation | None = None
) -> Callable[[type[AnyPart]], type[AnyPart]]:
    """Describe the figures that a part inherits anew, such as those of centred features.

    Args:
        card: Derives the card of each of them.
        interval: Changes the card of each interval once it is derived from the new card.
    """

    def described(figure: Figure) -> Figure:
        return Figure(card(figure.card), figure.interval and then(figure.interval, interval))

    def decorate(part: type[AnyPart]) -> type[AnyPart]:
        own = _own_fields(part)
        part.figures = {
            name: figure if name in own else described(figure)
            for name, figure in part.figures.items()
        }
        return part

    return decorate


def then(first: Derivation, second: Derivation | None) -> Derivation:
    """Return what derives a card in two steps; None changes nothing."""
    return first if second is None else lambda card: second(first(card))


def with_intervals(
    *below: type[Part], later: Collection[str] = ()
) -> Callable[[type[AnyPart]], type[AnyPart]]:
    """Give a part's `confidence_interval` an entry for each figure that has an interval.

    An entry may be missing where its figure may.

    Args:
        below: Parts in this one whose intervals stand here, too.
        later: Figures that reports had before they had their intervals, so these may be missing.
    """

    def decorate(part: type[AnyPart]) -> type[AnyPart]:
        intervals = _intervals_of(part, below, later)
        required = part.model_fields["confidence_interval"].is_required()
        entry: Any = (intervals, ...) if required else (intervals | None, None)
        return create_model(
            part.__name__,
            __base__=part,
            __module__=part.__module__,
            __doc__=part.__doc__,
            confidence_interval=entry,
        )

    return decorate


def _intervals_of(
    part: type[Part], below: Iterable[type[Part]], later: Collection[str]
) -> type[Intervals]:
    figures: dict[str, Figure] = {}
    entries: dict[str, Any] = {}
    for source in (part, *below):
        for name, figure in source.figures.items():
            if figure.interval is None:
                continue
            if name in figures:
                raise ValueError(f"{part.__name__} has two intervals named {name}")
            figures[name] = Figure(figure.interval(figure.card))
            missing = name in later or not source.model_fields[name].is_required()
            entries[name] = (Interval | None, None if missing else ...)
    if unknown := set(later) - figures.keys():
        raise ValueError(f"{part.__name__} has no interval of {', '.join(sorted(unknown))}")
    intervals = create_model(
        f"{part.__name__}Intervals",
        __base__=Intervals,
        __module__=part.__module__,
        __doc__=Intervals.__doc__,
        **entries,
    )
    intervals.figures = figures
    return intervals


def mounted(report: type[Part]) -> dict[str, MetricCard]:
    """Tell each part below its place, and return all cards by the dotted path of their figure.

    Raises:
        ValueError: If a part with figures is in two places: its cards name one.
    """
    cards: dict[str, MetricCard] = {}
    for place, part in _parts(report, ""):
        if part.figures and "place" in vars(part):
            raise ValueError(f"{part.__name__} is in two places: {part.place} and {place}")
        part.place = place
        cards |= {_key(part, name): figure.card for name, figure in part.figures.items()}
    return cards


def _parts(part: type[Part], place: str) -> Iterator[tuple[str, type[Part]]]:
    """Yield a part and all below it, with their places."""
    yield place, part
    for name, field in part.model_fields.items():
        for suffix, inner in _parts_of(field.annotation):
            yield from _parts(inner, f"{place}.{name}{suffix}".removeprefix("."))


def _parts_of(annotation: Any) -> Iterator[tuple[str, type[Part]]]:
    """Yield the parts that a field of this type holds, with `.*` for entries of a list."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        yield "", annotation
    entries = ".*" if get_origin(annotation) is list else ""
    for argument in get_args(annotation):
        for suffix, inner in _parts_of(argument):
            yield f"{entries}{suffix}", inner


def _key(part: type[Part], name: str) -> str:
    """Return the dotted path of a figure, `*` for the entries of a mapping."""
    entries = ".*" if get_origin(part.model_fields[name].annotation) is dict else ""
    return f"{part.place}.{name}{entries}"

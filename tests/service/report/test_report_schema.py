"""The report's schema: every figure explained, nothing unknown, nothing inconsistent."""

import copy
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from service.report.card import MetricCard
from service.report.document import CARDS, Report
from tests.service.report.sample_report import sample_layer, sample_report

SCHEMA: dict[str, Any] = Report.model_json_schema(mode="serialization")


def _options(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The schema with references followed and alternatives listed."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    return [found for option in schema.get("anyOf", [schema]) for found in _resolved(option)]


def _resolved(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "$ref" in schema or "anyOf" in schema:
        yield from _options(schema)
    else:
        yield schema


def _leaves(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Each place that holds numbers, as its dotted path and the schema that describes it."""
    for option in _options(schema):
        for name, child in option.get("properties", {}).items():
            yield from _leaves(child, f"{path}.{name}" if path else name)
        extra = option.get("additionalProperties")
        if isinstance(extra, dict):
            yield from _leaves(extra, f"{path}.*")
        if _holds_numbers(option):
            yield path, schema
        elif "items" in option:
            yield from _leaves(option["items"], f"{path}.*")


def _holds_numbers(schema: dict[str, Any]) -> bool:
    items = [*schema.get("prefixItems", []), *([schema["items"]] if "items" in schema else [])]
    return schema.get("type") in ("number", "integer") or any(
        _holds_numbers(option) for item in items for option in _options(item)
    )


FIGURES = {
    path: schema
    for path, schema in _leaves(SCHEMA)
    # Options are whatever the analysis was asked for; the API documents them.
    if not path.startswith("provenance.options")
}
# Figures in words.
FIGURES["verdict.regime"] = SCHEMA["$defs"]["Verdict"]["properties"]["regime"]
FIGURES["verdict.assessment.summary"] = SCHEMA["$defs"]["Assessment"]["properties"]["summary"]
FIGURES["performance.loss_kind"] = SCHEMA["$defs"]["Performance"]["properties"]["loss_kind"]
FIGURES["held_out.performance.loss_kind"] = SCHEMA["$defs"]["HeldOutPerformance"]["properties"][
    "loss_kind"
]


def test_every_figure_has_a_card_and_every_card_a_figure() -> None:
    assert FIGURES.keys() == CARDS.keys()


@pytest.mark.parametrize("path", sorted(FIGURES))
def test_the_schema_renders_the_card(path: str) -> None:
    rendered = FIGURES[path]
    card = CARDS[path]
    assert rendered["x-metric-card"] == {"key": path, **asdict(card)}
    assert rendered["description"] == card.definition
    for part in fields(MetricCard):
        assert getattr(card, part.name).strip()


def test_no_two_figures_have_one_title() -> None:
    """A twin that nobody described anew would pass for the figure it derives from."""
    titles = [card.title for card in CARDS.values()]
    assert [title for title in titles if titles.count(title) > 1] == []


# Facts and settings, which other samples would not change.
_FACTS = (
    "model.",
    "probe.",
    "feature_map.",
    "provenance.",
    "verdict.thresholds.",
    "held_out.probe.",
)
_WITHOUT_INTERVAL = {
    # The points of a curve, which is drawn as it is.
    *(f"compression.*.{name}" for name in ("k", "accuracy", "agreement", "output_error")),
    # Exact averages over all permutations of these very samples.
    "projections.quality_at_dim_target_chance",
    "projections.centered.quality_at_dim_target_chance",
    "held_out.quality_at_dim_target_chance",
    "held_out.centered.quality_at_dim_target_chance",
    "verdict.assessment.quality_chance",
    # Facts of a layer, and counts of what float32 tells apart: full diagonalization of each fold
    # would treble their cost to say that they are the same.
    "layers.*.p",
    "layers.*.rank",
    "layers.*.centered.rank",
}
_KEPT_ELSEWHERE = {
    "verdict.minimality": "verdict",
    "held_out.minimality": "held_out",
    "held_out.performance": "held_out",
}


def test_every_scalar_that_samples_change_has_an_interval() -> None:
    def is_scalar(path: str) -> bool:
        options = _options(FIGURES[path])
        return any(option.get("type") in ("number", "integer") for option in options)

    without = set()
    for path in FIGURES:
        if not is_scalar(path) or path.startswith(_FACTS) or ".confidence_interval." in path:
            continue
        part, name = path.rsplit(".", 1)
        interval = f"{_KEPT_ELSEWHERE.get(part, part)}.confidence_interval.{name}"
        if interval not in FIGURES:
            without.add(path)
    assert without == _WITHOUT_INTERVAL


def test_the_schema_is_valid_and_accepts_what_the_model_accepts() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    report = Report.model_validate_json(json.dumps(sample_report()))
    Draft202012Validator(SCHEMA).validate(json.loads(report.model_dump_json()))


def test_a_report_without_targets_is_accepted() -> None:
    document = sample_report()
    document["probe"] |= {"classes": None, "class_counts": None}
    for part in (document["projections"], document["projections"]["centered"]):
        part.update(dict.fromkeys(k for k in part if "quality" in k or k == "dim_target"))
    document["performance"] = {"accuracy": None, "loss": None}
    document["alignment"]["cka_target"] = None
    document["layers"] = None
    document["held_out"] = None
    Report.model_validate_json(json.dumps(document))


def test_an_eval_probe_without_targets_is_accepted() -> None:
    document = sample_report()
    held_out = document["held_out"]
    held_out["probe"] |= {"classes": None, "class_counts": None, "task": None}
    for part in (held_out, held_out["centered"]):
        part.update(dict.fromkeys(k for k in part if "quality" in k or k == "dim_target"))
    held_out["performance"] = {"accuracy": None, "loss": None}
    Report.model_validate_json(json.dumps(document))


def test_a_report_of_a_dense_model_counts_labels() -> None:
    document = sample_report()
    document["feature_map"]["positions"] = 64
    for probe in (document["probe"], document["held_out"]["probe"]):
        probe["class_counts"] = [64 * count for count in probe["class_counts"]]
    Report.model_validate_json(json.dumps(document))


def _with_labels(counts: list[int]) -> str:
    """A report on a probe whose samples carry several labels each."""
    document = sample_report()
    document["probe"] |= {"task": "multilabel", "class_counts": counts}
    return json.dumps(document)


def test_several_labels_a_sample_need_not_sum_to_the_samples() -> None:
    assert Report.model_validate_json(_with_labels([0, 500])).probe.task == "multilabel"
    for counts in ([0, 501], [1]):
        with pytest.raises(ValidationError, match="each of 2 labels with at most"):
            Report.model_validate_json(_with_labels(counts))


def test_a_report_from_before_dense_models_and_eval_probes_is_accepted() -> None:
    document = sample_report()
    del document["feature_map"]["positions"], document["held_out"], document["probe"]["notes"]
    Draft202012Validator(SCHEMA).validate(document)
    report = Report.model_validate_json(json.dumps(document))
    assert (report.feature_map.positions, report.held_out) == (1, None)
    assert report.probe.notes == []


def test_a_report_from_before_every_part_had_intervals_is_accepted() -> None:
    document = sample_report()
    for part in ("spectrum", "effective_rank", "performance"):
        del document[part]["confidence_interval"]
    del document["verdict"]["assessment"]["confidence_interval"]
    for layer in document["layers"]:
        del layer["confidence_interval"]
    held_out = document["held_out"]
    del held_out["centered"]["confidence_interval"], held_out["confidence_interval"]["rank"]
    Draft202012Validator(SCHEMA).validate(document)
    assert Report.model_validate_json(json.dumps(document)).spectrum.confidence_interval is None


def _assign(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    *parents, last = path.split(".")

    def change(document: Any) -> None:
        for name in parents:
            document = document[int(name) if name.isdigit() else name]
        document[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("surprise", 1, "Extra inputs are not permitted"),
        ("verdict.minimality.surprise", 1, "Extra inputs are not permitted"),
        ("schema_version", "2", "Input should be '1'"),
        ("alignment.d_lr", math.nan, "finite number"),
        ("performance.loss", math.inf, "finite number"),
        ("alignment.d_lr", "0.1", "valid number"),
        ("alignment.d_lr", 1.5, "less than or equal to 1"),
        ("model.sha256", "A" * 64, "match pattern"),
        ("model.name", "x" * 401, "at most 400 characters"),
        ("verdict.reasons", ["x" * 2001], "at most 2000 characters"),
        ("verdict.reasons", ["x"] * 101, "at most 100 items"),
        ("verdict.regime", "RICH", "'MF', 'EF' or 'undetermined'"),
        ("verdict.confidence_interval.energy", [0.9, 0.8], "lower bound 0.9 is above"),
        ("spectrum.confidence_interval.trace", [5.0, 4.0], "lower bound 5.0 is above"),
        ("created_at", "2026-01-02T03:04:05", "timezone"),
        ("spectrum.rank", 2, "eigenvalues must have 2 entries, one a rank, has 3"),
        ("spectrum.eigenvalues", [1.0, 3.0, 0.5], "must not increase"),
        ("spectrum.eigenvalues", [3.0, 1.0, 0.0], "greater than 0"),
        ("spectrum.centered.relative", [1.0], "relative must have 2 entries"),
        ("projections.utilization", [0.9] * 2, "utilization must have 3 entries"),
        ("projections.centered.quality", [0.9] * 3, "quality must have 2 entries"),
        ("projections.cumulative_quality", [0.9, 0.8, 0.9], "must not decrease"),
        ("probe.class_counts", [100, 300], "positions = 500, has 2 entries that sum to 400"),
        ("feature_map.positions", 3, "positions = 1500, has 2 entries that sum to 500"),
        ("feature_map.positions", 0, "greater than or equal to 1"),
        ("probe.class_counts", [500], "each of 2 classes"),
        ("feature_map.p", 2, "rank 3 exceeds the 2 features"),
        ("held_out.quality", [0.9] * 2, "quality must have 3 entries"),
        ("held_out.centered.eigenvalues", [0.9] * 3, "eigenvalues must have 2 entries"),
        ("held_out.eigenvalues", [0.9, -0.1, 0.5], "greater than or equal to 0"),
        ("held_out.cumulative_utilization", [0.9, 0.8, 0.9], "must not decrease"),
        ("held_out.energy_outside", 1.1, "less than or equal to 1"),
        ("held_out.probe.class_counts", [40, 50], "positions = 100, has 2 entries that sum to 90"),
        ("layers.0.p", 2, "rank of layer conv1 exceeds its 2 features"),
        ("layers.0.rank", 2, "eigenvalues must have 2 entries, one a rank, has 3"),
        ("layers.0.centered.cumulative_quality", [0.5], "must have 2 entries"),
        ("layers.1.d_lr", 1.5, "less than or equal to 1"),
        ("layers", [sample_layer("x", varies=False)] * 1025, "at most 1024 items"),
        ("provenance.options", {"a": "x" * 16_384}, "at most 16384 characters"),
        ("provenance.options", {"a": math.nan}, "not JSON compliant"),
        ("provenance.timings", {"load": -1.0}, "greater than or equal to 0"),
    ],
)
def test_what_a_hostile_or_broken_child_may_write_is_refused(
    path: str, value: object, message: str
) -> None:
    document = copy.deepcopy(sample_report())
    _assign(path, value)(document)
    with pytest.raises(ValidationError, match=message):
        Report.model_validate_json(json.dumps(document))


def test_vectors_beyond_the_limit_are_refused() -> None:
    document = sample_report()
    document["projections"]["utilization"] = [0.5] * 65_537
    with pytest.raises(ValidationError, match="at most 65536 items"):
        Report.model_validate_json(json.dumps(document))

"""Pages of the guide that are written from the code they describe, so that they cannot disagree."""

import inspect
from collections.abc import Iterable, Iterator
from importlib.resources import files

from service.contract.failures import FailureCode
from service.guide.data import DATA_KINDS, INPUT_KINDS
from service.guide.families import FAMILIES, PRECISIONS, Family, Outcome
from service.http.problems import Problem
from service.platform.settings import Settings
from service.report.card import MetricCard
from service.report.document import CARDS


def metric_cards() -> str:
    """Write one section for each figure of a report."""
    sections = [
        "# What every figure means",
        "",
        "One card for each figure, those of the verdict first, the others in the order of the",
        "report. The same cards are in its [JSON Schema](/v1/schemas/report).",
    ]
    for key, card in sorted(CARDS.items(), key=lambda item: not item[0].startswith("verdict.")):
        sections += ["", *_card(key, card)]
    return "\n".join(sections)


def _card(key: str, card: MetricCard) -> list[str]:
    return [
        f"## {card.title} {{#{key}}}",
        "",
        f"`{key}`",
        "",
        card.definition,
        "",
        f"**Formula** {card.formula}",
        "",
        f"**Range** {card.range}",
        "",
        f"**How to read it** {card.reading}",
        "",
        f"**When it misleads** {card.failure_modes}",
        "",
        f"**Source** {card.reference}",
    ]


def problems() -> str:
    """Write one section for each kind of error the API answers with."""
    lines = [
        "# Errors of the API",
        "",
        "Errors are `application/problem+json` (RFC 9457). `detail` says what was wrong, what was",
        "expected and what to do; `code` is for programs.",
    ]
    for kind in sorted(Problem.__subclasses__(), key=lambda kind: (kind.status, kind.code)):
        lines += [
            "",
            f"## {kind.title} {{#{kind.code}}}",
            "",
            f"`{kind.code}`, status {int(kind.status)}. {inspect.getdoc(kind)}",
        ]
    return "\n".join(lines)


_FAILURES: dict[FailureCode, str] = {
    FailureCode.NOT_A_MODEL: "The archive cannot be loaded as a TorchScript program.",
    FailureCode.UNSAFE_ARCHIVE: "The archive's structure is one that no exporter writes.",
    FailureCode.HEAD_NOT_FOUND: "The output does not come from a last linear layer. The message "
    "names the operation that was met instead.",
    FailureCode.INPUT_MISMATCH: "The model does not take the probe's inputs, or has no output for "
    "some of its classes. The message tells what was expected and what was found; "
    "`detail.suggestion`, where there is one, is a transform for the probe's spec that the model "
    "was tried on.",
    FailureCode.NON_FINITE: "The probe, the features or the outputs hold NaN or infinity.",
    FailureCode.TOO_FEW_SAMPLES: "The probe is too small for any figure.",
    FailureCode.UNSUPPORTED_MODEL: "A model of a kind whose features are not one linear layer away "
    "from its outputs, or that is not a function of its input. `detail.code` says which.",
    FailureCode.POLICY_VIOLATION: "The model tried something that models have no business to do.",
    FailureCode.QUARANTINED: "Jobs that opened this file crashed or misbehaved too often; no "
    "job opens it until the operator [releases](/guide/security) it.",
    FailureCode.OUT_OF_MEMORY: "The job needed more memory than it may have.",
    FailureCode.TIME_LIMIT: "The job took longer than it may.",
    FailureCode.CRASHED: "The model's process ended abnormally.",
    FailureCode.PROBE_UNREADABLE: "The probe is not what its spec says, or no known format.",
    FailureCode.STORED_FILE_DAMAGED: "The server's copy of a model or a probe is no longer what "
    "was uploaded, or is gone: its storage is at fault. Uploading the same file once more mends "
    "it.",
    FailureCode.STORAGE_UNAVAILABLE: "The server's store was full or out of reach for too long, "
    "at several attempts. Ask the operator.",
    FailureCode.LOST: "The workers on the job vanished, several times. Ask the operator.",
}


def failures() -> str:
    """Write what each error code of a failed analysis or probe means."""
    lines = [
        "# Why an analysis failed",
        "",
        "`error.code` of a failed analysis or inspection, or of a probe that could not be",
        "validated.",
        "",
        "| code | meaning |",
        "| --- | --- |",
    ]
    lines += [f"| `{code}` | {_FAILURES[code]} |" for code in FailureCode]
    return "\n".join(lines)


_OUTCOMES = {
    Outcome.WORKS: ("Works as it is", ("model", "what Φ is")),
    Outcome.CHOICE: ("Works with a choice", ("model", "what to say", "without it")),
    Outcome.REFUSED: ("Refused", ("model", "what to do instead", "code")),
}


def models() -> str:
    """Write which models work, after the page that says how to save one."""
    lines = [files("service.guide").joinpath("pages/models.md").read_text("utf-8")]
    for outcome, (title, columns) in _OUTCOMES.items():
        lines += [f"## {title}", "", *_row(columns), *_row(["---"] * len(columns))]
        for family in FAMILIES.values():
            if family.outcome is outcome:
                lines += _row(_cells(family)[: len(columns)])
        lines.append("")
    lines += [
        "## How exactly",
        "",
        "The consistency residual ‖W Φ + b − u‖ / ‖u − ū‖ is computed on every batch, and is part",
        "of the report. By the precision the model works in, at most this much is accepted:",
        "",
        "| precision | residual |",
        "| --- | --- |",
    ]
    lines += [f"| {precision} | {limit:.0e} |" for precision, limit in PRECISIONS.items()]
    return "\n".join(lines)


def _row(cells: Iterable[str]) -> list[str]:
    return [f"| {' | '.join(cells)} |"]


def _cells(family: Family) -> list[str]:
    codes = ", or ".join(f"`{code}`: `{detail}`" for code, detail in family.codes)
    return [family.title, family.explanation, codes]


_WHO_DECIDES = (
    "Each analysis decides it with the model in view, and its report says it in `probe.inputs` and "
    "`probe.notes`. Targets have [a page of their own](/guide/labels)."
)


def data() -> str:
    """Write which data works, after the page that says how to make a probe."""
    read = [[kind.title, kind.read, kind.asked] for kind in DATA_KINDS.values()]
    taken = [[kind.title, kind.taken, kind.asked] for kind in INPUT_KINDS.values()]
    lines = [
        files("service.guide").joinpath("pages/data.md").read_text("utf-8"),
        *_table(["file", "what is read", "what is asked for, or refused"], read),
        "",
        "## What the values mean",
        "",
        _WHO_DECIDES,
        "",
        *_table(["inputs", "without a word in the spec", "asked for"], taken),
    ]
    return "\n".join(lines)


def _table(columns: list[str], rows: list[list[str]]) -> Iterator[str]:
    for cells in (columns, ["---"] * len(columns), *rows):
        yield from _row(cells)


def settings() -> str:
    """Write every setting with its default."""
    lines = [
        "# Settings",
        "",
        "Environment variables of the API, the workers and the command line.",
        "",
        "| variable | default | meaning |",
        "| --- | --- | --- |",
    ]
    for name, field in Settings.model_fields.items():
        default = "~/.local/share/phiscope" if name == "data_dir" else _default(field.default)
        lines.append(f"| `PHISCOPE_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines)


def _default(value: object) -> str:
    if value is None or value == []:
        return ""
    if isinstance(value, list):
        value = ",".join(value)
    return f"`{value}`"

"""`python -m workers.commands.making`: what `phiscope probe make` runs."""

import argparse
import json
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from service.client import ApiError, Client
from service.contract.archives import ArchiveError
from service.contract.probe_spec import ProbeSpec, ProbeSummary
from service.contract.validation import issues_of
from workers.commands.making.arrays import DEFAULT_LIMIT
from workers.commands.making.files import from_words, spec_path, write_spec
from workers.commands.making.trial import Trial
from workers.protocol.errors import JobError
from workers.runner.parent_process import RunnerError

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Make the probe, read it back, try the model, and upload it where that is asked for."""
    arguments = _arguments()
    try:
        _make(arguments)
    except Exception as error:  # noqa: BLE001 - a dataset is someone's program, which raises anything
        message, hint = _words(error, arguments.source)
        console.print(f"[bold red]phiscope:[/] {escape(message)}")
        if hint is not None:
            console.print(f"  {escape(hint)}")
        return 1
    return 0


def _words(error: Exception, source: str) -> tuple[str, str | None]:
    """Return what went wrong, and what to do about it."""
    match error:
        case JobError():
            return error.failure.message, error.failure.hint
        case ValidationError():
            issues = issues_of(error.errors())
            return "; ".join(f"{each.location}: {each.message}" for each in issues), None
        case ApiError():
            return str(error.problem.get("detail") or error), None
        case ValueError() | OSError() | ImportError() | ArchiveError() | RunnerError():
            return str(error), None
    at = traceback.extract_tb(error.__traceback__)[-1]
    if Path(at.filename).is_relative_to(Path(__file__).parents[1]):
        return f"What {source} gives cannot be read: {type(error).__name__}: {error}", None
    return (
        f"{source} raised {type(error).__name__}: {error}",
        f"In {at.filename}, line {at.lineno}: {at.line}",
    )


def _make(arguments: argparse.Namespace) -> None:
    said = _said(arguments.spec)
    path, made = from_words(
        arguments.source, arguments.out, target=arguments.target, limit=arguments.limit
    )
    if made.note:
        console.print(f"Took {made.note}.")
    if made.warning:
        console.print(f"warning: {made.warning}", markup=False)
    spec = ProbeSpec.model_validate({**made.spec.model_dump(mode="json"), **said})
    with Trial() as trial:
        # The child reads the file as a worker would: what it prints is what a server would say.
        summary = trial.read(path, spec)
        beside = write_spec(path, summary.spec)
        _describe(path, beside, summary)
        if arguments.model is not None:
            _describe_trial(arguments.model, trial.analyse(arguments.model, path, summary.spec))
    _upload(arguments, path, summary.spec)


def _said(spec: str) -> dict[str, Any]:
    """Return the keys of a spec in JSON.

    Raises:
        ValueError: It is none.
    """
    try:
        return dict(json.loads(spec))
    except (TypeError, ValueError):
        raise ValueError(
            f'--spec is {spec!r}; expected a JSON object, such as \'{{"target": "label"}}\'.'
        ) from None


def _describe(path: Path, beside: Path, summary: ProbeSummary) -> None:
    console.print(f"[bold]{path}[/]  {summary.n:,} samples, {path.stat().st_size:,} bytes")
    for each in summary.inputs:
        shape = "×".join(map(str, each.shape)) or "one number"
        console.print(f"  input   {each.name}  {shape}  {each.dtype}")
    if summary.spec.target is None:
        console.print(
            "  target  none: a report without what needs targets (--target NAME sets one)"
        )
    else:
        classes = f", {summary.classes:,} classes" if summary.classes is not None else ""
        what = summary.task or "to be settled with a model in view"
        console.print(f"  target  {summary.spec.target}  {what}{classes}")
    if summary.class_counts is not None:
        names = summary.spec.class_names or [str(k) for k in range(len(summary.class_counts))]
        counts = [f"{name} {n:,}" for name, n in zip(names, summary.class_counts, strict=False)]
        shown = ", ".join(counts[:10])
        console.print(f"  labels  {shown}{' …' if len(counts) > 10 else ''}", markup=False)  # noqa: PLR2004 - as many as fit a line
    console.print(f"[bold]{beside}[/]  the spec, complete")


def _describe_trial(model: Path, report: Mapping[str, Any]) -> None:
    where, given = report["feature_map"], report["probe"]
    console.print(f"[bold]{model}[/] runs on it")
    for each in given.get("inputs") or []:
        console.print(f"  argument {each['argument']}  {each['done']}", markup=False)
    for note in given.get("notes") or []:
        console.print(f"  {note}", markup=False)
    console.print(f"  Φ is found at {where['location']}: {where['p']:,} features")
    performance = report.get("performance") or {}
    figures = [
        f"{name} {performance[name]:.4g}"
        for name in ("accuracy", "loss")
        if isinstance(performance.get(name), int | float)
    ]
    if figures:
        console.print(f"  {', '.join(figures)} on {given['n']:,} samples")
    console.print(f"  verdict {report['verdict']['regime']}")
    # The figures above are not to be read without these.
    for warning in (*where["warnings"], *report["verdict"]["warnings"]):
        console.print(f"  warning: {warning}", markup=False)


def _upload(arguments: argparse.Namespace, path: Path, spec: ProbeSpec) -> None:
    written = spec.model_dump(mode="json")
    if arguments.server is None:
        console.print(
            f"To register it: curl -F file=@{path} -F name={path.stem} -F 'spec=<{spec_path(path)}'"
            " SERVER/v1/probes"
        )
        return
    with Client(arguments.server) as phiscope:
        probe = phiscope.register_probe(path, name=arguments.name or path.stem, spec=written)
    console.print(f"Registered as {probe['name']}@{probe['version']} at {arguments.server}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="phiscope probe make")
    parser.add_argument("source")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--spec", default="{}")
    parser.add_argument("--target")
    parser.add_argument("--limit", type=int, default=DEFAULT_LIMIT)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--server")
    parser.add_argument("--name")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

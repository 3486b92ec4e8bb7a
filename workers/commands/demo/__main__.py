"""Runs the demonstration against a running Phiscope, through the public API alone."""

import io
import sys
import time
from typing import Any

import torch
from rich.console import Console
from rich.live import Live
from rich.table import Table

from service.client import Client
from workers.commands.demo.training import train

EPOCHS = (0, 1, 2, 4, 8, 16)
PROBE = "builtin:digits"
RUNS = (("cnn", False), ("lazy twin", True))

console = Console(highlight=False)


def main() -> int:
    """Train both twins, have every checkpoint analysed, and print one row for each."""
    (url,) = sys.argv[1:]
    torch.set_num_threads(1)  # the worker wants the other core
    began = time.monotonic()
    console.print(
        "Training a small CNN on handwritten digits, and a lazy twin: the same network\n"
        f"with its features frozen at initialisation. Each is judged on {PROBE}.\n"
    )
    with Client(url) as phiscope:
        reports = _analyse_all(phiscope)
    console.print()
    console.print(_conclusion(reports))
    console.print(f"[dim]{len(reports)} analyses in {time.monotonic() - began:.0f} s[/]")
    return 0


def _analyse_all(phiscope: Client) -> list[dict[str, Any]]:
    started = []
    with console.status("training"):
        for run, lazy in RUNS:
            for checkpoint in train(lazy=lazy, epochs=EPOCHS):
                archive = io.BytesIO(checkpoint.archive)
                model = phiscope.upload_model(archive, name="digits", run=run, step=checkpoint.step)
                started.append(phiscope.start(model["id"], PROBE))
    table = _table()
    reports: list[dict[str, Any]] = []
    with Live(table, console=console, refresh_per_second=4):
        for analysis in started:
            for state in phiscope.follow(analysis["id"]):
                table.caption = _progress(len(reports), len(started), state)
            report = phiscope.report(analysis["id"])
            reports.append(report)
            _add_row(table, report)
        table.caption = None
    return reports


def _table() -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, justify in (
        ("run", "left"),
        ("step", "right"),
        ("regime", "left"),
        ("Ũ' ± 95 %", "right"),
        ("E ± 95 %", "right"),
        ("D ± 95 %", "right"),
        ("Π*(C)", "right"),
        ("accuracy", "right"),
    ):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]  # a str to mypy
    return table


def _progress(done: int, total: int, state: dict[str, Any]) -> str:
    progress = state["progress"]
    samples = f" {progress['done']}/{progress['total']}" if progress["total"] else ""
    return f"analysed {done} of {total} · {state['status']}: {progress['stage']}{samples}"


def _add_row(table: Table, report: dict[str, Any]) -> None:
    verdict = report["verdict"]
    intervals = verdict["confidence_interval"]
    if table.rows and report["model"]["step"] == 0:
        table.add_section()
    table.add_row(
        report["model"]["run"],
        str(report["model"]["step"]),
        verdict["regime"],
        *(
            _with_interval(verdict["minimality"][name], intervals[name])
            for name in ("utilization_tapered", "energy", "distance")
        ),
        f"{_quality(report):.2f}",
        f"{report['performance']['accuracy']:.3f}",
    )


def _with_interval(value: float | None, interval: list[float] | None) -> str:
    if value is None:
        return "–"
    if interval is None:
        return f"{value:.2f}"
    return f"{value:.2f} ± {(interval[1] - interval[0]) / 2:.2f}"


def _quality(report: dict[str, Any]) -> float:
    """Π*(C): the share of the target that the first C eigenfunctions carry."""
    classes: int = report["probe"]["classes"]
    cumulative: list[float] = report["projections"]["cumulative_quality"]
    return cumulative[min(classes, len(cumulative)) - 1]


def _conclusion(reports: list[dict[str, Any]]) -> str:
    lines = [
        "",
        "  Ũ'    how much of what the network computes lies in its first C − 1 features",
        "  E     how much of the features' energy lies there",
        "  D     distance to a minimal network",
        "  Π*(C) how well the first C features describe the classes",
        "",
    ]
    for run, _ in RUNS:
        last = [report for report in reports if report["model"]["run"] == run][-1]
        verdict = last["verdict"]
        lines.append(f"{run}, epoch {last['model']['step']}: {verdict['regime']}.")
        lines.append(f"  {verdict['reasons'][0]}")
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

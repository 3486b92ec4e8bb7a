"""Having archives analysed by the product, and keeping its reports."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from service.client import AnalysisFailedError, Client
from service.local.up import LocalPhiscope
from service.platform.settings import Settings

from .data import Problem, Samples


@contextmanager
def product(announce: Callable[[str], None]) -> Iterator[str]:
    """Run everything that `phiscope up` does, on a free port, and yield its address."""
    with TemporaryDirectory(prefix="phiscope-") as temporary:
        directory = Path(temporary)
        # Its own databases, whatever the environment says.
        settings = Settings(
            data_dir=directory, database_url=None, broker_url=None, storage_url=None
        )
        logs = directory / "logs"
        with LocalPhiscope(settings, "127.0.0.1", 0, announce=announce, log_dir=logs) as phiscope:
            yield phiscope.url


@dataclass(frozen=True)
class Pending:
    """An analysis that was started, and the file that its report goes to."""

    analysis: str
    file: Path


class Analyst:
    """Sends models and probes to the product, and collects what it says.

    Args:
        client: Of the product.
        directory: Of the reports: `EXPERIMENT/EPOCH-PROBE.json`.
        report: Takes lines of progress.
    """

    def __init__(self, client: Client, directory: Path, report: Callable[[str], None]) -> None:
        self._client = client
        self._directory = directory
        self._report = report
        self._probes: dict[str, str] = {}
        self._pending: list[Pending] = []

    def start(
        self,
        name: str,
        archives: Path,
        source: str,
        problem: Problem,
        tolerance: float | None = None,
    ) -> None:
        """Start the analyses of all archives of an experiment, each on all probes.

        Its reports of earlier runs are removed.

        Args:
            name: Of the experiment.
            archives: Directory with its `EPOCH.pt`.
            source: Name of its problem; the same one has the same probes.
            problem: Its problem.
            tolerance: Of a second round, in which only outputs above this share count.
        """
        reports = self._directory / name
        reports.mkdir(parents=True, exist_ok=True)
        for stale in reports.glob("*.json"):
            stale.unlink()
        probes = {
            probe: self._registered(f"{source}-{probe}".replace(" ", "-"), samples, problem)
            for probe, samples in problem.probes.items()
        }
        for archive in sorted(archives.glob("*.pt"), key=lambda file: int(file.stem)):
            model = self._client.upload_model(archive, name=name, run=name, step=int(archive.stem))
            for probe, identifier in probes.items():
                for remark, options in _rounds(tolerance):
                    analysis = self._client.start(model["id"], identifier, options)
                    file = reports / f"{archive.stem}-{probe}{remark}.json"
                    self._pending.append(Pending(analysis["id"], file))

    def collect(self) -> int:
        """Wait for all analyses, write their reports, and return how many have none."""
        failed = 0
        for k, pending in enumerate(self._pending, 1):
            analysis = self._client.wait(pending.analysis)
            outcome = analysis["regime"]
            if outcome is None:
                failed += 1
                outcome = str(AnalysisFailedError(analysis))
            else:
                report = self._client.report(pending.analysis)
                pending.file.write_text(json.dumps(report))
            what = f"{pending.file.parent.name} {pending.file.stem}"
            self._report(f"analysed {k} of {len(self._pending)}: {what}: {outcome}")
        return failed

    def _registered(self, name: str, samples: Samples, problem: Problem) -> str:
        if name not in self._probes:
            content = io.BytesIO()
            np.savez(content, x=samples.x, y=samples.y)
            content.seek(0)
            spec: dict[str, Any] = {"transform": dict(problem.transform)}
            self._probes[name] = self._client.register_probe(content, name=name, spec=spec)["id"]
        return self._probes[name]


def _rounds(tolerance: float | None) -> list[tuple[str, dict[str, Any]]]:
    """How each model is judged on each probe: a remark for the table, and options."""
    usual: list[tuple[str, dict[str, Any]]] = [("", {})]
    if tolerance is None:
        return usual
    options = {"output_tolerance": tolerance, "verdict_tolerance": tolerance}
    return [*usual, (f", tolerance {tolerance:g}", options)]

"""What figures cost beside what cannot be done without: an eigendecomposition, a forward pass.

Run it by hand: `python -m tests.benchmarks.diagnosis_cost`, or a part of it: `--p 32 512`,
`--networks`. What is compared takes turns within one run; the least of several repetitions counts,
and ratios are of these.

On a machine that others use as well take `--threads 1`: then it is processor time that is measured,
which they hardly disturb. Several threads wait for one another wherever others hold a core.
"""

import argparse
import gc
import io
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import sklearn
import torch
from pydantic import JsonValue
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # has no stubs
from torch import Tensor, nn

from service.contract.probe_spec import ProbeSpec
from service.platform.settings import Settings
from tests.benchmarks.layers_cost import mlp, resnet18
from tests.support import npz, scripted
from workers.analysis.evaluation import choose_batch_size, evaluate
from workers.analysis.job import analyse
from workers.analysis.rows import model_view
from workers.diagnostics import Answer, Model, Moments, Performance, Rows, diagnose
from workers.diagnostics.folds import Folds
from workers.extraction import discover, load_model
from workers.probes.probe import load_probe
from workers.protocol.arguments import ProbeLimits
from workers.protocol.progress import ProgressWriter, Stage
from workers.protocol.requests import Device

CLASSES = 10
SAMPLES = {32: 1_797, 512: 20_000, 1_024: 16_000, 2_048: 16_000, 4_096: 16_000}
# As the job has them: rows that come in one batch, and rows whose answers are looked at one by one.
BATCH, KEPT_ROWS = 256, 10_000
SPEC: dict[str, JsonValue] = {"transform": {}}
ARGUMENTS: dict[str, JsonValue] = {
    "spec": SPEC,
    "eval_spec": None,
    "limits": {},
    "layers_bytes": 1 << 30,
    "memory_bytes": 8 << 30,
    "result_bytes": 1 << 30,
    "options": {},
}
Clock = Callable[[], float]


@dataclass(frozen=True)
class Sample:
    """A layer on a probe.

    Attributes:
        phi: Features `(n, p)`, float32.
        labels: `(n,)`.
        head: `(C, p)`.
    """

    phi: Tensor
    labels: Tensor
    head: Tensor

    @property
    def outputs(self) -> Tensor:
        """Of the head, `(n, C)`."""
        return self.phi @ self.head.T


def sample(p: int, n: int) -> Sample:
    """Random ReLU features of correlated inputs about class means, and a head fitted in haste."""
    generator = torch.Generator().manual_seed(p)
    inputs = min(p, 256)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    labels = torch.randint(CLASSES, (n,), generator=generator)
    scale = torch.arange(1, inputs + 1).pow(-0.5)
    mixing = scale[:, None] * normal(inputs, inputs)
    x = (normal(CLASSES, inputs)[labels] + normal(n, inputs)) @ mixing
    phi = torch.relu(x @ normal(inputs, p) / inputs**0.5 + 0.1 * normal(p))
    head, wanted = torch.zeros(CLASSES, p), nn.functional.one_hot(labels, CLASSES).float()
    rate = n / float(phi.square().sum())
    for _ in range(30):
        head += rate * (wanted - (phi @ head.T).softmax(1)).T @ phi / n * CLASSES
    return Sample(phi, labels, head)


def sums(given: Sample) -> list[Moments]:
    """The sums of ten folds, batch by batch."""
    folds = Folds(len(given.phi), classes=CLASSES)
    outputs = given.outputs
    for first in range(0, len(outputs), BATCH):
        rows = slice(first, first + BATCH)
        folds.update(given.phi[rows], outputs[rows], given.labels[rows])
    return folds.moments()


def diagnosing(given: Sample) -> Callable[[], object]:
    """What finds every figure from the sums, with all that the job gives it."""
    folds, outputs = sums(given), given.outputs
    answer = Answer.of_logits("classification", CLASSES)
    predicted = outputs.argmax(1)
    performances: list[Performance] = [
        answer.measure(outputs[part], given.labels[part])
        for part in torch.arange(len(outputs)).chunk(len(folds))
    ]
    kept = torch.arange(len(outputs))[:: max(1, len(outputs) // KEPT_ROWS)][:KEPT_ROWS]
    rows = Rows(given.phi[kept], predicted[kept], given.labels[kept], answer.decide)
    return lambda: diagnose(
        folds,
        Model("classification", head=given.head, classes=CLASSES),
        rows=rows,
        performances=performances,
    )


def measure_layer(p: int, most: int, clock: Clock) -> None:
    """Print the line of one width."""
    given = sample(p, SAMPLES[p])
    double = given.phi.double()
    gram = double.T @ double / len(double)
    ways: dict[str, Callable[[], object]] = {
        "sums": lambda: sums(given),
        "diagnose": diagnosing(given),
        "eigh": lambda: torch.linalg.eigh(gram),
        "pca": lambda: PCA(svd_solver="covariance_eigh").fit(double.numpy()),
    }
    times = max(1, min(most, 4_096 // p))
    least = least_seconds(ways, times, clock)
    seconds = (least[name] for name in ways)
    ratios = (
        least["diagnose"] / least["eigh"],
        (least["sums"] + least["diagnose"]) / least["pca"],
    )
    line(
        WIDTHS,
        f"{p:,}",
        f"{len(double):,}",
        times,
        *map(in_seconds, seconds),
        *map(as_ratio, ratios),
    )


class Network(NamedTuple):
    """A network that is analysed so many times, on inputs of some shape, samples first."""

    name: str
    net: nn.Module
    shape: tuple[int, ...]
    times: int


def networks(images: int) -> Iterator[Network]:
    """The networks of the second table."""
    torch.manual_seed(0)
    digits = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, CLASSES))
    yield Network("64-32-10", digits, (1_797, 64), 7)
    yield Network("784-512-512-10", mlp(512), (40_000, 784), 3)
    yield Network("784-2048-2048-10", mlp(2_048), (16_000, 784), 2)
    yield Network("ResNet-18, 32×32", resnet18(), (images, 3, 32, 32), 2)


def measure_network(given: Network, most: int, clock: Clock, device: Device) -> None:
    """Print the line of one network."""
    net = given.net.eval()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*given.shape, generator=generator)
    labels = torch.randint(CLASSES, (len(x),), generator=generator)
    archive, file = scripted(net), npz(x=x.numpy(), y=labels.numpy())
    net = net.to(device)
    probe = load_probe(io.BytesIO(file), ProbeSpec.model_validate(SPEC), ProbeLimits())
    first_batch = next(probe.batches(choose_batch_size(probe)))[0]
    model, first_batch = (
        load_model(io.BytesIO(archive), device),
        [t.to(device) for t in first_batch],
    )
    extractor = discover(model, tuple(first_batch))
    extractor.destination = torch.device(device)
    probe = probe.settled(model_view(extractor.feature_map))
    size = choose_batch_size(probe, extractor.sample_bytes)
    diagnosis: list[float] = []

    @torch.inference_mode()
    def forward() -> None:
        for first in range(0, len(x), size):
            net(x[first : first + size].to(device))
        if device == "cuda":
            torch.cuda.synchronize()

    def extraction() -> None:
        with stopwatch(clock) as progress:
            evaluate(extractor, probe, size, 0, progress)

    def total() -> None:
        with stopwatch(clock) as progress:
            analyse(
                {**ARGUMENTS, "device": device}, (io.BytesIO(archive), io.BytesIO(file)), progress
            )
        began = progress.began
        diagnosis.append(began[Stage.REPORTING] - began[Stage.DIAGONALIZING])

    ways = {"forward": forward, "extraction": extraction, "total": total}
    times = min(most, given.times)
    least = least_seconds(ways, times, clock)
    seconds = (least["forward"], least["extraction"], min(diagnosis), least["total"])
    ratios = (least[way] / least["forward"] for way in ("extraction", "total"))
    cells = (*map(in_seconds, seconds), *map(as_ratio, ratios))
    line(NETWORK_WIDTHS, given.name, f"{len(x):,}", size, times, *cells)


class Stopwatch(ProgressWriter):
    """Notes when each stage of a job begins, beside reporting it."""

    def __init__(self, fd: int, clock: Clock) -> None:
        super().__init__(fd)
        self.began: dict[Stage, float] = {}
        self._clock = clock

    def report(self, stage: Stage, done: int = 0, total: int = 0) -> None:
        """Tell of a stage."""
        self.began.setdefault(stage, self._clock())
        super().report(stage, done, total)


@contextmanager
def stopwatch(clock: Clock) -> Iterator[Stopwatch]:
    """A stopwatch whose reports nobody reads."""
    reading, writing = os.pipe2(os.O_NONBLOCK)
    try:
        yield Stopwatch(writing, clock)
    finally:
        os.close(reading)
        os.close(writing)


def least_seconds(
    ways: Mapping[str, Callable[[], object]], times: int, clock: Clock
) -> dict[str, float]:
    """The least seconds of each of several ways, which take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(times):
        for name, way in ways.items():
            gc.collect()
            began = clock()
            way()
            seconds[name].append(clock() - began)
    return {name: min(found) for name, found in seconds.items()}


WIDTHS = (6, 7, 6, 9, 9, 9, 9, 14, 18)
NETWORK_WIDTHS = (17, 7, 6, 6, 9, 11, 10, 9, 19, 14)


def line(widths: tuple[int, ...], *cells: object) -> None:
    """Print a line as soon as it is known."""
    aligned = (f"{cell:>{width}}" for cell, width in zip(map(str, cells), widths, strict=True))
    print(" ".join(aligned), flush=True)  # noqa: T201 - it is what the script is for


def in_seconds(seconds: float) -> str:
    """Four digits of it."""
    return f"{seconds:.4g}" if seconds < 1_000 else f"{seconds:.0f}"


def as_ratio(ratio: float) -> str:
    """Two digits after the point."""
    return f"{ratio:.2f}"


def main() -> None:
    """Print both tables, or what of them is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.diagnosis_cost")
    parser.add_argument(
        "--p", nargs="*", type=int, choices=list(SAMPLES), help="features; none: the first table"
    )
    parser.add_argument("--networks", action="store_true", help="the second table")
    parser.add_argument(
        "--device", choices=["cpu", "cuda"], default="cpu", help="where networks are analysed"
    )
    parser.add_argument("--images", type=int, default=5_000, help="how many ResNet-18 sees")
    parser.add_argument("--repeats", type=int, default=7, help="the most of one line")
    parser.add_argument(
        "--threads",
        type=int,
        default=Settings().threads_per_job,
        help="of torch and of scikit-learn; default: as the product's job",
    )
    given = parser.parse_args()
    both = given.p is None and not given.networks
    alone = given.threads == 1
    clock = time.process_time if alone else time.perf_counter
    torch.set_num_threads(given.threads)
    print(  # noqa: T201 - it is what the script is for
        f"torch {torch.__version__}, scikit-learn {sklearn.__version__}, numpy {np.__version__}; "
        f"threads: {given.threads}, of {os.cpu_count()} cores. Seconds"
        f"{' of processor time' if alone else ''}, the least of so many times."
    )
    with threadpool_limits(given.threads):
        if both or given.p is not None:
            named = ("sums", "diagnose", "eigh", "PCA", "diagnose÷eigh", "sums+diagnose÷PCA")
            line(WIDTHS, "p", "n", "times", *named)
            for p in given.p or SAMPLES:
                measure_layer(p, given.repeats, clock)
        if both or given.networks:
            stages = ("forward", "extraction", "diagnosis", "total")
            ratios = ("extraction÷forward", "total÷forward")
            line(NETWORK_WIDTHS, "network", "n", "batch", "times", *stages, *ratios)
            for each in networks(given.images):
                measure_network(each, given.repeats, clock, given.device)


if __name__ == "__main__":
    main()

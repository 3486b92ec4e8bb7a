"""How often 95 % intervals hold the truth: figures of samples against those of the population.

Features are drawn from distributions of known mean and spectrum, and the figures of 400,000 samples
stand for the truth. Run it by hand: `python -m tests.benchmarks.coverage`, or with the names of
settings.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import reduce
from operator import add

import numpy as np
import torch
from torch import Tensor

from workers.diagnostics import (
    Answer,
    Assessment,
    Coordinates,
    Diagnosis,
    Interval,
    Model,
    Moments,
    Performance,
    assess,
    diagnose,
    performance_intervals,
)
from workers.diagnostics.compression import Rows
from workers.diagnostics.folds import Folds
from workers.diagnostics.layer_sums import LayerSums
from workers.diagnostics.layers import LayerDiagnosis, diagnose_layer

DRAWS = 300
SIZES = (300, 500, 1000, 3000)
FEWER_THAN_FEATURES = {"wide": (100, 200)}
POPULATION = 400_000
_BATCH = 50_000
Draw = tuple[Tensor, Tensor, Tensor]
# Figures and intervals by part and name.
Figures = Mapping[str, Mapping[str, float | None]]
Intervals = Mapping[str, Mapping[str, Interval | None]]


@dataclass(frozen=True)
class Population:
    """Where samples come from.

    Attributes:
        shares: Of the classes, `(C,)`.
        features: Gives features `(n, p)` for labels `(n,)`.
        head: `(C, p)`.
        bias: `(C,)`.
    """

    shares: Tensor
    features: Callable[[Tensor, torch.Generator], Tensor]
    head: Tensor
    bias: Tensor

    def draw(self, n: int, generator: torch.Generator) -> Draw:
        """Features, outputs and labels of n samples, of which 5 % have a label by chance."""
        classes = torch.multinomial(self.shares, n, replacement=True, generator=generator)
        phi = self.features(classes, generator)
        chance = torch.randint(len(self.shares), (n,), generator=generator)
        wrong = torch.rand(n, generator=generator) < 0.05
        return phi, phi @ self.head.T + self.bias, torch.where(wrong, chance, classes)


def mixture(
    p: int,
    classes: int,
    *,
    noise: float,
    decay: float,
    size: float = 1.0,
    stray: float = 0.0,
    shares: Sequence[float] | None = None,
    seed: int = 0,
) -> Population:
    """Gaussian classes about means in general position, read by a head along these means.

    Args:
        p: Features.
        classes: How many.
        noise: Variance within classes, summed over directions.
        decay: Exponent of the power law that the variances follow.
        size: Of the means.
        stray: Size of the head beside the means, relative to along them.
        shares: Of the classes; equal by default.
        seed: Of means, directions and head.
    """
    generator = torch.Generator().manual_seed(seed)
    random = (torch.randn(p, p, generator=generator, dtype=torch.float64) for _ in range(4))
    tilt = torch.eye(classes, p, dtype=torch.float64) + 0.35 * next(random)[:classes] / p**0.5
    means = size * tilt @ torch.linalg.qr(next(random))[0]
    variances = torch.arange(1, p + 1, dtype=torch.float64) ** -decay
    spread = (noise * variances / variances.sum()).sqrt()[:, None] * torch.linalg.qr(next(random))[
        0
    ]
    between, beside = means - means.mean(0), next(random)[:classes]
    head = between / between.norm() + stray * beside / beside.norm()

    def features(labels: Tensor, draws: torch.Generator) -> Tensor:
        within = torch.randn(len(labels), p, generator=draws, dtype=torch.float64) @ spread
        return means[labels] + within + 0.2

    return _read(features, classes, head, shares)


def random_relu(p: int, classes: int, *, inputs: int, decay: float, seed: int = 0) -> Population:
    """Random ReLU features of Gaussian classes, read by the head that fits the labels best."""
    generator = torch.Generator().manual_seed(seed)
    variances = torch.arange(1, inputs + 1, dtype=torch.float64) ** -decay
    spread = (variances / variances.sum()).sqrt()
    means = torch.randn(classes, inputs, generator=generator, dtype=torch.float64) / inputs**0.5
    layer = torch.randn(inputs, p, generator=generator, dtype=torch.float64)

    def features(labels: Tensor, draws: torch.Generator) -> Tensor:
        within = torch.randn(len(labels), inputs, generator=draws, dtype=torch.float64) * spread
        return ((means[labels] + within) @ layer).relu()

    labels = torch.arange(_BATCH) % classes
    phi = features(labels, generator)
    targets = torch.eye(classes, dtype=torch.float64)[labels]
    centred = phi - phi.mean(0)
    ridge = 1e-4 * centred.square().mean() * len(phi) * torch.eye(p, dtype=torch.float64)
    head = torch.linalg.solve(centred.T @ centred + ridge, centred.T @ targets).T
    return _read(features, classes, head, None)


def _read(
    features: Callable[[Tensor, torch.Generator], Tensor],
    classes: int,
    head: Tensor,
    shares: Sequence[float] | None,
) -> Population:
    """Logits of zero mean and standard deviation 4."""
    weights = torch.tensor([1.0] * classes if shares is None else list(shares))
    outputs = features(torch.arange(_BATCH) % classes, torch.Generator().manual_seed(1)) @ head.T
    scale = 4 / outputs.std(0).mean()
    return Population(weights / weights.sum(), features, scale * head, -scale * outputs.mean(0))


def truth(population: Population) -> Figures:
    """The figures of many samples.

    Their sums are scaled to a thousand: the numerical rank's tolerance grows with n.
    """
    generator = torch.Generator().manual_seed(2)
    halves, performances, some = [], [], None
    for _ in range(2):
        sums: list[Moments] = []
        for _ in range(POPULATION // 2 // _BATCH):
            some = population.draw(_BATCH, generator)
            moments, performance = _summed(*some)
            sums.append(moments)
            performances.append(performance)
        arrays = reduce(add, sums).to_arrays()
        arrays = {name: values * (1000 / POPULATION) for name, values in arrays.items()}
        halves.append(Moments.from_arrays({**arrays, "n": np.array(500)}))
    assert some is not None
    return _figures(
        _diagnose(halves, population, some, performances), performances, diagnose_layer(halves)
    )


def _summed(phi: Tensor, outputs: Tensor, labels: Tensor) -> tuple[Moments, Performance]:
    targets = torch.eye(outputs.shape[1], dtype=torch.float64)[labels]
    moments = Moments.zeros(phi.shape[1], outputs.shape[1], outputs.shape[1])
    moments.update(phi, outputs, targets)
    return moments, _measured(outputs, targets)


def _diagnose(
    folds: Sequence[Moments],
    population: Population,
    rows: Draw,
    performances: Sequence[Performance],
    basis: Tensor | None = None,
) -> Diagnosis:
    phi, outputs, _ = rows
    return diagnose(
        folds,
        Model("classification", head=population.head),
        rows=Rows(phi, outputs.argmax(1), None, decide=lambda projected: projected.argmax(1)),
        performances=performances,
        coordinates=Coordinates(basis),
    )


def _figures(
    diagnosis: Diagnosis, performances: Sequence[Performance], layer: LayerDiagnosis | None
) -> Figures:
    """Every figure that has an interval, under the name of the interval."""
    measured = reduce(add, performances)
    assert layer is not None
    collapse = asdict(diagnosis.neural_collapse) if diagnosis.neural_collapse else {}
    return {
        "verdict": asdict(diagnosis.verdict.minimality),
        "verdict.assessment": vars(_assess(diagnosis)),
        "alignment": asdict(diagnosis.alignment),
        "effective_rank": vars(diagnosis.effective_rank),
        "effective_rank.uncentered": vars(diagnosis.uncentered_effective_rank),
        "spectrum": vars(diagnosis.spectrum),
        "spectrum.centered": vars(diagnosis.spectrum.centered),
        "projections": vars(diagnosis.projections),
        "projections.centered": vars(diagnosis.centered_projections),
        "neural_collapse": {**collapse, "nc4_mismatch": diagnosis.nc4},
        "performance": {"accuracy": measured.accuracy, "loss": measured.loss},
        "layers": {**vars(layer.alignment), **vars(layer.effective_rank)},
    }


def _measured(outputs: Tensor, targets: Tensor) -> Performance:
    logits = Answer.of_logits("classification", outputs.shape[1])
    return logits.measure(outputs.double(), targets)


def _assess(diagnosis: Diagnosis) -> Assessment:
    return assess(
        diagnosis.verdict.regime,
        diagnosis.evidence,
        curve=diagnosis.compression,
        trials=diagnosis.trials,
    )


@dataclass
class Coverage:
    """What became of the intervals of a figure.

    Attributes:
        truth: Of the population.
        draws: How many intervals there were.
        hits: How many of them held the truth.
        astray: How many did not even hold the figure.
        widths: Of the intervals.
        figures: Of the draws.
    """

    truth: float
    draws: int = 0
    hits: int = 0
    astray: int = 0
    widths: list[float] = field(default_factory=list)
    figures: list[float] = field(default_factory=list)

    def add(self, figure: float, interval: tuple[float, float]) -> None:
        """Count another draw."""
        low, high = interval
        tolerance = 1e-9 * abs(self.truth)
        self.draws += 1
        self.hits += low - tolerance <= self.truth <= high + tolerance
        self.astray += not low <= figure <= high
        self.widths.append(high - low)
        self.figures.append(figure)

    @property
    def share(self) -> float:
        """Share of the intervals that held the truth."""
        return self.hits / self.draws


def measure(population: Population, n: int, draws: int) -> dict[str, Coverage]:
    """Coverage of every figure's intervals over samples of n."""
    expected = truth(population)
    covered: dict[str, Coverage] = {}
    for seed in range(draws):
        figures, intervals = _sampled(population, n, seed)
        for part, bounds in intervals.items():
            for name, interval in bounds.items():
                value, figure = expected[part][name], figures[part][name]
                if interval is not None and value is not None and figure is not None:
                    found = covered.setdefault(f"{part}.{name}", Coverage(value))
                    found.add(figure, interval)
    return covered


def _sampled(population: Population, n: int, seed: int) -> tuple[Figures, Intervals]:
    """Figures and intervals of one sample."""
    sample = population.draw(n, torch.Generator().manual_seed(seed))
    phi, outputs, labels = sample
    targets = torch.eye(outputs.shape[1], dtype=torch.float64)[labels]
    folds = Folds(n, seed=seed)
    dealt = folds.update(phi, outputs, targets)
    performances = [_measured(outputs[dealt == j], targets[dealt == j]) for j in range(folds.count)]
    moments = folds.moments()
    diagnosis = _diagnose(moments, population, sample, performances, folds.basis)
    sums = LayerSums([phi.shape[1]], n=n, in_folds=[True], seed=seed)
    sums.update([phi], outputs, targets)
    (layer,) = map(diagnose_layer, sums.moments())
    assert layer is not None
    intervals = {
        **diagnosis.confidence_interval,
        "verdict.assessment": _assess(diagnosis).confidence_interval,
        "performance": performance_intervals(performances, positions=1),
        "layers": layer.confidence_interval,
    }
    return _figures(diagnosis, performances, layer), intervals


def settings() -> dict[str, Population]:
    """From strongly minimal to lazy, and where the theory ends."""
    return {
        "minimal": mixture(32, 6, noise=0.09, decay=0.5),
        "intermediate": mixture(32, 6, noise=0.5, decay=0.7, stray=0.2),
        "lazy": random_relu(64, 6, inputs=24, decay=0.6),
        "coinciding": mixture(32, 6, noise=1.2, decay=0.6, size=0.6, stray=0.3),
        "unequal": mixture(32, 6, noise=0.2, decay=0.7, shares=(30, 15, 8, 4, 2, 1)),
        "wide": random_relu(256, 6, inputs=64, decay=0.8),
        # So many features that folds are not solved for in full.
        "many": mixture(320, 6, noise=0.5, decay=0.7, stray=0.2),
        "many lazy": random_relu(320, 6, inputs=80, decay=0.7),
    }


def main() -> None:
    """Print the table, a line as soon as it is measured."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.coverage")
    parser.add_argument("settings", nargs="*", help="which, of " + ", ".join(settings()))
    chosen = parser.parse_args().settings or list(settings())
    _line("setting", "n", "figure", "truth", "mean", "covered", "width")
    for name in chosen:
        population = settings()[name]
        for n in (*FEWER_THAN_FEATURES.get(name, ()), *SIZES):
            for figure, found in measure(population, n, DRAWS).items():
                _line(
                    name,
                    n,
                    figure,
                    f"{found.truth:.4f}",
                    f"{np.mean(found.figures):.4f}",
                    f"{found.share:.1%}",
                    f"{np.mean(found.widths):.4g}",
                )


def _line(*cells: object) -> None:
    widths = (12, 5, 48, 9, 9, 8, 9)
    line = "  ".join(f"{cell:{width}}" for cell, width in zip(map(str, cells), widths, strict=True))
    print(line, flush=True)  # noqa: T201 - a script that talks to people


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

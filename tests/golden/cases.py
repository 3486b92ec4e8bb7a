"""Models and probes, each with what is asked of an analysis, and the report that comes of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from support import traced
from torch import nn

from tests.golden.made import (
    Arrays,
    Attentive,
    Convolutional,
    Deadened,
    Dense,
    Normalised,
    about_means,
    multilayer,
    partly_wrong,
    quarters,
    unequal_labels,
    whole_numbers,
    with_head_of_means,
)
from tests.workers.analysis.analysed import analysed


@dataclass(frozen=True)
class Case:
    """One analysis.

    Attributes:
        model: What is judged.
        probe: Arrays by name.
        eval_probe: Those of a second probe.
        spec: How both are read.
        options: Of the analysis.
        exact: Whether the model computes without any rounding.
    """

    model: nn.Module
    probe: Arrays
    eval_probe: Arrays | None = None
    spec: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    exact: bool = True

    @cached_property
    def archive(self) -> bytes:
        """The model, traced."""
        return traced(self.model.eval(), torch.from_numpy(next(iter(self.probe.values()))[:2]))

    def report(self) -> dict[str, Any]:
        """The report's figures."""
        return analysed(
            self.archive,
            self.probe,
            eval_probe=self.eval_probe,
            spec={"transform": {}, **self.spec},
            **self.options,
        )


def extended() -> Case:
    """A random network: its outputs draw on all of its features."""
    labels = unequal_labels(1, 6, 600)
    return Case(
        multilayer(12, 24, 6, seed=10),
        {"x": about_means(2, labels, 12, apart=4, noise=6), "y": labels},
    )


def minimal() -> Case:
    """Classes far apart, and a head that points to their means."""
    return Case(*_minimal(unequal_labels(20, 4, 600)))


def _minimal(labels: np.ndarray) -> tuple[nn.Module, Arrays]:
    x = about_means(21, labels, 8, apart=12, noise=2)
    net = with_head_of_means(multilayer(8, 16, 4, seed=30), x, labels)
    return net, {"x": x, "y": partly_wrong(22, labels)}


def narrow() -> Case:
    """A table of 7 columns, a layer of 6 units for 10 classes: too narrow to tell."""
    labels = unequal_labels(40, 10, 500)
    x = about_means(41, labels, 7, apart=8, noise=3)
    return Case(with_head_of_means(multilayer(7, 6, 10, seed=42), x, labels), {"x": x, "y": labels})


def regression() -> Case:
    """Values to be met, of which the last has nothing to do with the inputs."""
    x = quarters(50, 6, 400, 10)
    y = np.stack([x[:, 0] * x[:, 1], x[:, 2] - x[:, 3], quarters(51, 8, 400)], 1)
    return Case(multilayer(10, 20, 3, seed=52), {"x": x, "y": y.astype(np.float32)})


def multilabel() -> Case:
    """Several labels a sample, most of them rare."""
    x = quarters(60, 6, 500, 10)
    y = (x[:, :5] + quarters(61, 2, 500, 5) > np.array([0.0, 0.25, 0.5, 0.75, 1.0])).astype(
        np.int64
    )
    return Case(multilayer(10, 20, 5, seed=62), {"x": x, "y": y}, spec={"task": "multilabel"})


def balanced_multilabel() -> Case:
    """The same, with all labels counting alike."""
    case = multilabel()
    return Case(case.model, case.probe, spec=case.spec, options={"class_weighting": "balanced"})


def no_targets() -> Case:
    """Inputs alone."""
    return Case(multilayer(9, 18, 5, seed=70), {"x": quarters(71, 6, 300, 9)})


def features_alone() -> Case:
    """A model that returns features and no outputs."""
    labels = unequal_labels(75, 4, 300)
    net = multilayer(9, 14, 4, seed=76)[:-1]
    return Case(
        net,
        {"x": about_means(77, labels, 9, apart=5, noise=4), "y": labels},
        options={"feature_map": {"features_output": 0}},
    )


def dense() -> Case:
    """Classes for each of 16 positions, some of which count in no figure."""
    x = quarters(80, 6, 120, 2, 4, 4)
    labels = np.digitize(x.sum(1) + quarters(81, 3, 120, 4, 4), [-1.0, 1.5])
    labels = np.where(whole_numbers(82, 9, 120, 4, 4) > 7, 255, labels).astype(np.uint8)
    return Case(Dense(12, 3, seed=83), {"x": x, "y": labels}, spec={"ignore_label": 255})


def convolutional() -> Case:
    """All layers of a network for images."""
    labels = unequal_labels(90, 4, 300)
    means = quarters(91, 5, 4, 2, 8, 8)
    x = means[labels] + quarters(92, 5, 300, 2, 8, 8)
    return Case(Convolutional(2, 16, 4, seed=93), {"x": x, "y": labels}, options={"layers": "all"})


def deep() -> Case:
    """All layers of a fully connected network, whose units all fire on dozens of samples."""
    labels = unequal_labels(100, 5, 500)
    x = about_means(101, labels, 8, apart=6, noise=3)
    net = multilayer(8, 20, 14, 12, 5, seed=1200, largest=4)
    return Case(net, {"x": x, "y": labels}, options={"layers": "all"})


def held_out() -> Case:
    """Judged on a second probe, which lacks a class."""
    labels = unequal_labels(110, 5, 500)
    others = np.minimum(unequal_labels(111, 5, 260), 3)
    x, fresh = (about_means(112, each, 10, apart=6, noise=4) for each in (labels, others))
    net = with_head_of_means(multilayer(10, 20, 5, seed=113), x, labels)
    fresh = fresh + quarters(114, 2, 260, 10)
    return Case(net, {"x": x, "y": labels}, eval_probe={"x": fresh, "y": others})


def balanced() -> Case:
    """One class has a twentieth of the samples, and counts as much as the others."""
    labels = unequal_labels(120, 4, 600)
    labels[(labels == 3) & (whole_numbers(121, 9, 600) < 7)] = 0
    model, probe = _minimal(labels)
    return Case(model, probe, options={"class_weighting": "balanced"})


def declared() -> Case:
    """A head that its owner names, since what follows it is not recognised."""
    labels = unequal_labels(130, 4, 400)
    x = about_means(131, labels, 10, apart=6, noise=4).astype(np.float64)
    return Case(
        Normalised(10, 16, 4, seed=132),
        {"x": x, "y": labels},
        options={"feature_map": {"module": "head"}},
        exact=False,
    )


def attentive() -> Case:
    """A transformer."""
    labels = unequal_labels(140, 4, 400)
    means = quarters(141, 6, 4, 5, 8)
    x = (means[labels] + quarters(142, 4, 400, 5, 8)).astype(np.float64)
    return Case(Attentive(8, 20, 4, seed=143), {"x": x, "y": labels}, exact=False)


def fewer_samples() -> Case:
    """Fewer samples than features, seen again on a second probe, with all layers."""
    labels = unequal_labels(150, 4, 90)
    others = unequal_labels(151, 4, 160)
    x, fresh = (about_means(152, each, 40, apart=3, noise=6) for each in (labels, others))
    return Case(
        multilayer(40, 12, 110, 4, seed=153, largest=4),
        {"x": x, "y": labels},
        eval_probe={"x": fresh + quarters(154, 3, 160, 40), "y": others},
        options={"layers": "all", "class_weighting": "balanced"},
    )


def many_classes() -> Case:
    """200 classes and 24 features: sums are of the outputs' coordinates."""
    labels = unequal_labels(160, 200, 1200)
    x = about_means(161, labels, 16, apart=6, noise=2)
    net = with_head_of_means(multilayer(16, 24, 200, seed=162, largest=4), x, labels)
    return Case(net, {"x": x, "y": labels})


class Clamp(nn.Hardtanh):
    """Between -4 and 4: unlike a ReLU it leaves features without a large mean."""

    def __init__(self) -> None:
        super().__init__(-4.0, 4.0)


def wide() -> Case:
    """600 features: of so many the intervals take another way.

    Each unit sees one input, and a little of two others. Inputs vary ever more from the first to
    the last, so that eigenvalues lie as far apart as 600 can.
    """
    labels = unequal_labels(170, 10, 900)
    size = np.linspace(3, 16, 600).round()
    noise = np.round(whole_numbers(171, 64, 900, 600) * size / 64) / 4
    x = (quarters(172, 2, 10, 600)[labels] + noise).astype(np.float32)
    net = multilayer(600, 600, 10, seed=173, nonlinearity=Clamp, largest=2)
    trunk = net[0]
    assert isinstance(trunk, nn.Linear)
    with torch.no_grad():
        eye = torch.eye(600)
        trunk.weight.copy_(eye + eye.roll(7, 0) / 4 - eye.roll(101, 0) / 8)
    return Case(with_head_of_means(net, x, labels), {"x": x, "y": partly_wrong(174, labels)})


def dead_features() -> Case:
    """Units that never fire, and units that always give the same."""
    labels = unequal_labels(180, 4, 400)
    x = about_means(181, labels, 10, apart=5, noise=4)
    return Case(Deadened(10, 22, 4, seed=182), {"x": x, "y": labels})


def sampled() -> Case:
    """A part of the samples, in small batches, with other settings."""
    case = extended()
    options = {
        "max_samples": 250,
        "batch_size": 37,
        "seed": 5,
        "output_tolerance": 1e-3,
        "verdict_tolerance": 0.1,
    }
    return Case(case.model, case.probe, options=options)


_ALL: tuple[Callable[[], Case], ...] = (
    extended,
    minimal,
    narrow,
    regression,
    multilabel,
    balanced_multilabel,
    no_targets,
    features_alone,
    dense,
    convolutional,
    deep,
    held_out,
    balanced,
    declared,
    attentive,
    fewer_samples,
    many_classes,
    wide,
    dead_features,
    sampled,
)
CASES = {case.__name__: case for case in _ALL}

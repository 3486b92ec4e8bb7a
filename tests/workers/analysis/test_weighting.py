"""Weights by class: from a probe's labels to the moments of the pass over it."""

import io
import os
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from support import npz
from torch import nn

from service.contract.failures import FailureCode
from service.contract.probe_spec import ProbeSpec
from workers.analysis.evaluation import Evaluation, evaluate
from workers.analysis.weighting import RowWeights
from workers.extraction import discover
from workers.probes.probe import ProbeData, load_probe
from workers.protocol.arguments import ProbeLimits
from workers.protocol.errors import JobError
from workers.protocol.progress import ProgressWriter

INPUTS = np.random.default_rng(0).random((60, 4), dtype=np.float32)
LABELS = np.repeat([0, 1, 3], [40, 15, 5])


def probe(max_samples: int | None = None, **arrays: np.ndarray) -> ProbeData:
    file = io.BytesIO(npz(x=INPUTS, **arrays))
    return load_probe(file, ProbeSpec(), ProbeLimits(), max_samples=max_samples)


@pytest.fixture
def writer() -> Iterator[ProgressWriter]:
    reading, writing = os.pipe2(os.O_NONBLOCK)
    yield ProgressWriter(writing)
    os.close(reading)
    os.close(writing)


def run(data: ProbeData, writer: ProgressWriter, width: int) -> Evaluation:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 4)).eval()
    extractor = discover(model, next(data.batches(16))[0])
    weights = RowWeights(data, "balanced")
    return evaluate(extractor, data, 16, 0, writer, weights=weights)


def test_classes_that_occur_weigh_alike_and_all_of_them_n() -> None:
    weights = RowWeights(probe(y=LABELS), "balanced").of(torch.from_numpy(LABELS))
    assert weights is not None
    assert weights.sum() == pytest.approx(60)
    for label in (0, 1, 3):
        assert weights[label == LABELS].sum() == pytest.approx(20)


@pytest.mark.parametrize("width", [8, 100])
def test_the_pass_weighs_moments_and_counts_answers_as_they_are(
    width: int, writer: ProgressWriter
) -> None:
    found = run(probe(y=LABELS), writer, width)
    total = found.total()
    assert (total.n, total.weight) == (60, pytest.approx(60))
    assert total.y.tolist() == pytest.approx([20, 20, 0, 20])
    assert total.y_count.tolist() == [40, 15, 0, 5]
    assert (found.basis is None) == (width < 60)
    assert sum(each.n for each in found.performance_by_fold) == 60


def test_weights_are_those_of_the_samples_that_are_analysed(writer: ProgressWriter) -> None:
    total = run(probe(max_samples=30, y=LABELS), writer, 8).total()
    present = total.y_count > 0
    assert total.y[present].tolist() == pytest.approx(
        [30 / int(present.sum())] * int(present.sum())
    )


@pytest.mark.parametrize(
    ("arrays", "what"), [({}, "no targets"), ({"y": INPUTS[:, :2]}, "values for targets")]
)
def test_without_classes_there_is_nothing_to_balance(
    arrays: dict[str, np.ndarray], what: str
) -> None:
    with pytest.raises(JobError) as caught:
        RowWeights(probe(**arrays), "balanced")
    failure = caught.value.failure
    assert failure.code == FailureCode.INPUT_MISMATCH
    assert failure.message.endswith(f"the probe has {what}.")
    assert failure.hint is not None
    assert '"none"' in failure.hint
    assert RowWeights(probe(**arrays), "none").of(None) is None

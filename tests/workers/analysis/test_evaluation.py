"""One pass over a probe: several inputs, rows per position, and what does not fit together."""

import io
import os
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from support import npz
from torch import Tensor, nn

from service.contract.failures import FailureCode
from service.contract.probe_spec import ProbeSpec
from workers.analysis.evaluation import Evaluation, choose_batch_size, evaluate
from workers.analysis.rows import KEPT_ROWS, model_view
from workers.diagnostics import Performance
from workers.extraction import discover
from workers.probes.probe import ProbeData, load_probe
from workers.protocol.arguments import ProbeLimits
from workers.protocol.errors import JobError
from workers.protocol.progress import Progress, ProgressReader, ProgressWriter, Stage

SAMPLES, SIDE, FEATURES, CLASSES = 200, 8, 5, 3
POSITIONS = SIDE * SIDE
RNG = np.random.default_rng(0)
IMAGES = RNG.random((SAMPLES, 2, SIDE, SIDE), dtype=np.float32)
PIXEL_LABELS = RNG.integers(0, CLASSES, (SAMPLES, SIDE, SIDE), dtype=np.uint8)


class PixelNetwork(nn.Module):
    """Labels each pixel."""

    def __init__(self, seed: int = 0, stride: int = 1) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.trunk = nn.Sequential(nn.Conv2d(2, FEATURES, 3, stride, padding=1), nn.ReLU())
        self.head = nn.Conv2d(FEATURES, CLASSES, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.trunk(images))

    @torch.inference_mode()
    def rows(self) -> tuple[Tensor, Tensor]:
        """Features and outputs of all pixels of all images."""
        features = self.trunk(torch.from_numpy(IMAGES))
        phi, outputs = (
            maps.movedim(1, -1).flatten(0, 2) for maps in (features, self.head(features))
        )
        return phi, outputs


class MaskedTokens(nn.Module):
    """Averages the tokens that the mask holds true."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(11, 6)
        self.head = nn.Linear(6, 3)

    def features(self, ids: Tensor, mask: Tensor) -> Tensor:
        kept = self.embedding(ids) * mask[..., None]
        return torch.relu(kept.sum(1) / mask.sum(1, keepdim=True))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.features(ids, mask))


@pytest.fixture
def progress() -> Iterator[tuple[ProgressReader, ProgressWriter]]:
    reading, writing = os.pipe2(os.O_NONBLOCK)
    yield ProgressReader(reading), ProgressWriter(writing)
    os.close(reading)
    os.close(writing)


@pytest.fixture
def writer(progress: tuple[ProgressReader, ProgressWriter]) -> ProgressWriter:
    return progress[1]


def probe(spec: dict[str, object] | None = None, seed: int = 0, **arrays: np.ndarray) -> ProbeData:
    read = ProbeSpec.model_validate(spec or {})
    most = SAMPLES - 10 if seed else None
    return load_probe(io.BytesIO(npz(**arrays)), read, ProbeLimits(), max_samples=most, seed=seed)


def pixel_probe(seed: int = 0) -> ProbeData:
    return probe(x=IMAGES, y=PIXEL_LABELS, seed=seed)


def run(model: nn.Module, data: ProbeData, batch_size: int, writer: ProgressWriter) -> Evaluation:
    extractor = discover(model.eval(), next(data.batches(batch_size))[0])
    settled = data.settled(model_view(extractor.feature_map))
    return evaluate(extractor, settled, batch_size, 0, writer)


def mismatch(model: nn.Module, data: ProbeData, writer: ProgressWriter) -> str:
    with pytest.raises(JobError) as caught:
        run(model, data, 64, writer)
    failure = caught.value.failure
    assert failure.code == FailureCode.INPUT_MISMATCH
    return f"{failure.message} {failure.hint}"


@pytest.mark.parametrize("batch_size", [1, 33, 200])
def test_figures_are_those_of_all_positions(
    progress: tuple[ProgressReader, ProgressWriter], batch_size: int
) -> None:
    reader, writer = progress
    model = PixelNetwork()
    found = run(model, pixel_probe(), batch_size, writer)
    (features, outputs), labels = model.rows(), PIXEL_LABELS.reshape(-1)
    total = found.total()
    assert total.n == SAMPLES * POSITIONS
    assert [fold.n for fold in found.folds] == [SAMPLES // 10 * POSITIONS] * 10
    phi = features.double()
    torch.testing.assert_close(total.phi_phi, phi.T @ phi, rtol=1e-5, atol=1e-5)
    assert total.y.tolist() == np.bincount(labels).tolist()
    per_class = torch.stack([phi[labels == k].sum(0) for k in range(CLASSES)], 1)
    torch.testing.assert_close(total.phi_y, per_class, rtol=1e-5, atol=1e-5)
    measured = sum(found.performance_by_fold, Performance())
    assert measured.n == SAMPLES * POSITIONS
    assert measured.accuracy == (outputs.argmax(1).numpy() == labels).mean()
    assert reader.latest() == Progress(Stage.EVALUATING, SAMPLES, SAMPLES)


def kept_places(found: Evaluation) -> list[tuple[int, int]]:
    return list(zip(found.kept.sample_of.tolist(), found.kept.position_of.tolist(), strict=True))


def test_kept_rows_are_bounded_and_the_same_for_every_model(writer: ProgressWriter) -> None:
    model = PixelNetwork()
    found = run(model, pixel_probe(), 33, writer)
    places = kept_places(found)
    assert len(set(places)) == KEPT_ROWS < SAMPLES * POSITIONS
    assert places == sorted(places)
    assert {sample for sample, _ in places} == set(range(SAMPLES))
    assert {position for _, position in places} == set(range(POSITIONS))
    at = found.kept.sample_of * POSITIONS + found.kept.position_of
    torch.testing.assert_close(found.kept.rows().features, model.rows()[0][at])
    other = run(PixelNetwork(seed=1), pixel_probe(), 7, writer)
    assert kept_places(other) == places


def test_kept_rows_of_a_subset_name_the_samples_of_the_file(writer: ProgressWriter) -> None:
    model, data = PixelNetwork(), pixel_probe(seed=2)
    found = run(model, data, 64, writer)
    assert set(found.kept.sample_of) == set(data.rows)
    at = found.kept.sample_of * POSITIONS + found.kept.position_of
    torch.testing.assert_close(found.kept.rows().features, model.rows()[0][at])


@pytest.mark.parametrize("batch_size", [7, 200])
def test_kept_rows_name_the_positions_that_count(writer: ProgressWriter, batch_size: int) -> None:
    out = RNG.random(PIXEL_LABELS.shape) < 0.5
    out[:5] = True
    masks = np.where(out, 255, PIXEL_LABELS).astype(np.uint8)
    model = PixelNetwork()
    found = run(model, probe({"ignore_label": 255}, x=IMAGES, y=masks), batch_size, writer)
    at = found.kept.sample_of * POSITIONS + found.kept.position_of
    counted = np.flatnonzero(~out.reshape(-1))
    assert found.total().n == len(counted)
    assert at.tolist() == counted[: len(at)].tolist()
    rows = found.kept.rows()
    torch.testing.assert_close(rows.features, model.rows()[0][at])
    assert rows.labels is not None
    assert rows.labels.tolist() == PIXEL_LABELS.reshape(-1)[at].tolist()


def test_a_small_probe_is_kept_whole(writer: ProgressWriter) -> None:
    data = probe(x=IMAGES.reshape(SAMPLES, -1), y=np.arange(SAMPLES) % 4)
    model = nn.Sequential(nn.Linear(2 * POSITIONS, 9), nn.ReLU(), nn.Linear(9, 4))
    found = run(model, data, 50, writer)
    assert found.kept.sample_of.tolist() == list(range(SAMPLES))
    assert not found.kept.position_of.any()
    assert found.kept.rows().features.shape == (SAMPLES, 9)


def test_a_dense_model_needs_a_label_for_each_position(writer: ProgressWriter) -> None:
    labelled = probe(x=IMAGES, y=np.arange(SAMPLES) % CLASSES)
    words = mismatch(PixelNetwork(), labelled, writer)
    assert "(200, 8, 8, 3)" in words
    assert "targets (200,): 64 against 1 a sample" in words
    assert "shape (n, *positions) = (n, 8, 8)" in words
    assert '"target": null' in words
    values = probe(x=IMAGES, y=RNG.random((SAMPLES, POSITIONS)))
    assert "targets (200, 64): 64 against 1 a sample" in mismatch(PixelNetwork(), values, writer)
    assert "(200, 4, 4, 3) and the probe's targets (200, 8, 8): 16 against 64 a sample" in mismatch(
        PixelNetwork(stride=2), pixel_probe(), writer
    )


def test_an_ordinary_model_needs_one_label_a_sample(writer: ProgressWriter) -> None:
    data = probe(x=IMAGES.reshape(SAMPLES, -1), y=PIXEL_LABELS)
    words = mismatch(nn.Linear(2 * POSITIONS, 4), data, writer)
    assert "(200, 1, 4) and the probe's targets (200, 8, 8): 1 against 64 a sample" in words
    assert "one label a sample, of shape (n,)" in words


def test_without_targets_a_dense_model_needs_none(writer: ProgressWriter) -> None:
    found = run(PixelNetwork(), probe(x=IMAGES), 64, writer)
    assert found.performance_by_fold == []
    assert found.total().n == SAMPLES * POSITIONS


def test_a_model_of_two_inputs_gets_both(writer: ProgressWriter) -> None:
    ids = RNG.integers(0, 11, (120, 7), dtype=np.int32)
    mask = np.arange(7) < RNG.integers(1, 8, (120, 1))
    spec = {"input": ["input_ids", "attention_mask"], "transform": [{"dtype": "int64"}, {}]}
    data = probe(spec, input_ids=ids, attention_mask=mask, labels=np.arange(120) % 3)
    model = MaskedTokens()
    found = run(model, data, 32, writer)
    with torch.inference_mode():
        expected = model.features(torch.from_numpy(ids).long(), torch.from_numpy(mask))
    torch.testing.assert_close(found.kept.rows().features, expected)


def test_batches_shrink_with_all_inputs_and_with_positions() -> None:
    megabyte = np.zeros((3, 1 << 18), np.uint8)
    assert choose_batch_size(probe(x=IMAGES)) == 256
    assert choose_batch_size(probe(x=megabyte)) == 64
    assert choose_batch_size(probe({"input": ["a", "b"]}, a=megabyte, b=megabyte)) == 32
    pixels = np.zeros((3, 128, 128), np.uint8)
    assert choose_batch_size(probe({"target": None}, x=pixels, y=pixels)) == 256
    assert choose_batch_size(probe(x=pixels, y=pixels)) == 4
    words = np.full((3, 512), 32_767)
    words[0, :2] = 0, 5
    assert choose_batch_size(probe(x=words, y=words)) == 1
    assert choose_batch_size(probe(x=words, y=words % 9)) == 128


def test_networks_with_little_in_between_get_larger_batches() -> None:
    narrow, bytes_in = probe(x=np.zeros((3, 784), np.float32)), 4 * 784
    assert choose_batch_size(narrow) == 256
    assert choose_batch_size(narrow, 8_000) == 2048
    assert choose_batch_size(narrow, (1 << 16) - bytes_in) == 1024
    assert choose_batch_size(narrow, 10 << 20) == 256
    words = np.full((3, 512), 32_767)
    words[0, :2] = 0, 5
    assert choose_batch_size(probe(x=words, y=words), 1) == 1
    assert choose_batch_size(probe(x=words, y=words % 9), 1) == 128

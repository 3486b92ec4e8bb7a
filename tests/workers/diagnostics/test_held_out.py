"""Held-out figures against their definition on full matrices, and where they must agree."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from samples import diagnosed

from workers.diagnostics import (
    Answer,
    Diagnosis,
    HeldOut,
    HeldOutSums,
    NonFiniteError,
    TooFewSamplesError,
    held_out,
)
from workers.diagnostics.folds import Folds
from workers.diagnostics.output_space import OutputSpace
from workers.diagnostics.performance import Task

CLASSES = 5


@dataclass(frozen=True)
class Sample:
    """Features, outputs and targets, one row a sample; targets of no columns for none."""

    phi: np.ndarray
    outputs: np.ndarray
    targets: np.ndarray
    task: Task = "classification"
    balanced: bool = False

    def __getitem__(self, rows: slice | np.ndarray) -> "Sample":
        return replace(
            self, phi=self.phi[rows], outputs=self.outputs[rows], targets=self.targets[rows]
        )

    @property
    def weights(self) -> np.ndarray:
        """Of each row, by its class if balanced."""
        if not self.balanced:
            return np.ones(len(self.phi))
        return len(self.phi) / CLASSES / (self.targets @ self.targets.sum(0))

    def tensors(
        self, rows: slice
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        arrays = (self.phi, self.outputs, self.targets, self.weights)
        phi, outputs, targets, weights = (torch.from_numpy(array[rows]) for array in arrays)
        return (
            phi,
            outputs,
            targets if targets.shape[1] else None,
            weights if self.balanced else None,
        )

    def diagnose(self) -> Diagnosis:
        folds = Folds(len(self.phi))
        folds.update(*self.tensors(slice(None)))
        return diagnosed(folds.moments(), task=self.task, basis=folds.basis)

    def judge(self, diagnosis: Diagnosis, *, batch: int = 100, positions: int = 1) -> HeldOut:
        outputs = self.outputs.shape[1]
        sums = HeldOutSums(
            diagnosis,
            len(self.phi) // positions,
            Answer.of_logits(self.task, outputs),
            OutputSpace(outputs),
            targets=self.targets.shape[1],
            positions=positions,
        )
        for start in range(0, len(self.phi), batch):
            sums.update(*self.tensors(slice(start, start + batch)))
        return held_out(sums)


def network(
    *,
    n: int = 900,
    p: int = 40,
    seed: int = 0,
    offset: float = 0.0,
    task: Task = "classification",
) -> Sample:
    """ReLU features around class means, and a head with a bias; or a noisy regression."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, n)
    truth = np.random.default_rng(99)
    means, head = truth.normal(size=(CLASSES, p)), truth.normal(size=(p, CLASSES))
    scales = np.logspace(0, -1.5, p)
    phi = np.maximum(means[labels] + rng.normal(size=(n, p)) * scales, 0) + offset
    phi = phi.astype(np.float32)
    outputs = (phi @ head + truth.normal(size=CLASSES)).astype(np.float32)
    targets = np.eye(CLASSES)[labels]
    if task == "regression":
        targets = outputs + rng.normal(size=outputs.shape)
    return Sample(phi, outputs, targets, task)


def basis(functions: np.ndarray, tolerance: float) -> np.ndarray:
    """Orthonormal columns that span the functions' columns."""
    left, singular, _ = np.linalg.svd(functions, full_matrices=False)
    return left[:, singular > tolerance * singular[0]]


def centered(array: np.ndarray) -> np.ndarray:
    return array - array.mean(0)


@pytest.mark.parametrize(
    "sample",
    [
        network(),
        network(task="regression"),
        network(n=30, p=80),
        replace(network()[np.r_[0:900, 0:40]], balanced=True),
    ],
    ids=["classes", "values", "fewer_samples_than_features", "balanced"],
)
def test_on_the_probe_itself_they_are_the_main_figures(sample: Sample) -> None:
    diagnosis = sample.diagnose()
    found = sample.judge(diagnosis)
    for mine, main, spectrum in (
        (found.projections, diagnosis.projections, diagnosis.spectrum),
        (
            found.centered_projections,
            diagnosis.centered_projections,
            diagnosis.spectrum.centered,
        ),
    ):
        np.testing.assert_allclose(mine.eigenvalues, spectrum.eigenvalues, rtol=1e-8)
        for name, value in vars(main).items():
            np.testing.assert_allclose(getattr(mine, name), value, atol=1e-8, err_msg=name)
        assert mine.energy_outside == pytest.approx(0, abs=1e-12)
    minimality = diagnosis.verdict.minimality
    assert found.minimality.rank == minimality.rank
    assert found.minimality.utilization == pytest.approx(minimality.utilization, abs=1e-8)
    assert found.minimality.energy == pytest.approx(minimality.energy, abs=1e-8)


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("center", [False, True])
def test_figures_equal_the_definitions(task: Task, center: bool, offset: float) -> None:
    probe = network(task=task, offset=offset)
    fresh = network(task=task, seed=1, n=400, offset=offset)
    diagnosis = probe.diagnose()
    found = fresh.judge(diagnosis, batch=37)

    first, phi = probe.phi.astype(np.float64), fresh.phi.astype(np.float64)
    outputs, targets = fresh.outputs.astype(np.float64), fresh.targets
    if center:
        first, phi, outputs, targets = map(centered, (first, phi, outputs, targets))
    projections = found.centered_projections if center else found.projections
    rank = len(projections.eigenvalues)
    vectors = np.linalg.svd(first, full_matrices=False)[2][:rank].T
    coordinates = phi @ vectors
    functions = coordinates / np.linalg.norm(coordinates, axis=0)
    target, learned = basis(targets, 1e-6), basis(outputs, 1e-6)

    np.testing.assert_allclose(projections.eigenvalues, (coordinates**2).mean(0), rtol=1e-5)
    total = (phi**2).sum(1).mean()
    assert projections.energy_outside == pytest.approx(
        1 - (coordinates**2).sum(1).mean() / total, abs=1e-8
    )
    quality, utilization = ((space.T @ functions) ** 2 for space in (target, learned))
    np.testing.assert_allclose(projections.quality, quality.sum(0), atol=1e-6)
    np.testing.assert_allclose(projections.utilization, utilization.sum(0), atol=1e-5)
    for k in (1, 2, target.shape[1], 20, rank):
        span = basis(functions[:, :k], 1e-12)
        for space, cumulative in (
            (target, projections.cumulative_quality),
            (learned, projections.cumulative_utilization),
        ):
            expected = ((space.T @ span) ** 2).sum() / space.shape[1]
            assert cumulative is not None
            assert cumulative[k - 1] == pytest.approx(expected, abs=1e-6)
    assert projections.dim_target == target.shape[1]
    assert projections.dim_learned == learned.shape[1]


def test_minimality_equals_its_definition_on_fresh_samples() -> None:
    probe, fresh = network(), network(seed=1, n=400)
    found = fresh.judge(probe.diagnose()).minimality
    phi = centered(fresh.phi.astype(np.float64))
    outputs = centered(fresh.outputs.astype(np.float64))
    learned = basis(outputs - outputs.mean(1, keepdims=True), 1e-3)
    r = learned.shape[1]
    vectors = np.linalg.svd(centered(probe.phi.astype(np.float64)), full_matrices=False)[2][:r].T
    span = basis(phi @ vectors, 1e-12)
    assert found.rank == r == CLASSES - 1
    assert found.utilization == pytest.approx(((learned.T @ span) ** 2).sum() / r, abs=1e-9)
    assert found.energy == pytest.approx(((phi @ vectors) ** 2).sum() / (phi**2).sum(), abs=1e-9)


def test_balanced_classes_count_as_if_the_rare_had_been_repeated() -> None:
    diagnosis = network().diagnose()
    fresh = network(seed=1, n=2000)
    of_class = [np.flatnonzero(column)[:80] for column in fresh.targets.T]
    rows = np.concatenate([of_class[0][:20], *of_class[1:]])
    repeated = np.concatenate([rows, np.tile(of_class[0][:20], 3)])
    weighted = replace(fresh[rows], balanced=True).judge(diagnosis)
    expected = fresh[repeated].judge(diagnosis)
    for mine, other in (
        (weighted.projections, expected.projections),
        (weighted.centered_projections, expected.centered_projections),
    ):
        for name in ("eigenvalues", "energy_outside", "quality", "cumulative_utilization"):
            np.testing.assert_allclose(
                getattr(mine, name), getattr(other, name), rtol=1e-6, atol=1e-8, err_msg=name
            )
    assert vars(weighted.minimality) == pytest.approx(vars(expected.minimality), abs=1e-8)


def test_chance_level_is_the_mean_over_shuffled_labels() -> None:
    diagnosis = network(p=12).diagnose()
    fresh = network(seed=1, n=100, p=12)
    promised = fresh.judge(diagnosis).projections.quality_chance_level
    assert promised is not None
    coordinates = fresh.phi.astype(np.float64) @ diagnosis.eigenvectors
    rng = np.random.default_rng(0)
    left = np.linalg.qr(coordinates)[0]
    shuffled = []
    for _ in range(3000):
        target = basis(rng.permutation(fresh.targets), 1e-6)
        shuffled.append(((left.T @ target) ** 2).sum(1).cumsum() / target.shape[1])
    np.testing.assert_allclose(promised, np.mean(shuffled, axis=0), atol=2e-3)


def test_a_tiny_probe_is_spanned_by_as_many_eigenfunctions_as_it_has_samples() -> None:
    diagnosis = network().diagnose()
    fresh = network(seed=1, n=12)
    projections = fresh.judge(diagnosis).projections
    assert projections.cumulative_quality is not None
    assert projections.quality_chance_level is not None
    np.testing.assert_allclose(projections.cumulative_quality[11:], 1, atol=1e-5)
    np.testing.assert_allclose(projections.quality_chance_level[11:], 1, atol=1e-5)
    span = basis(fresh.phi.astype(np.float64) @ diagnosis.eigenvectors[:, :7], 1e-12)
    target = basis(fresh.targets, 1e-6)
    assert projections.cumulative_quality[6] == pytest.approx(
        ((target.T @ span) ** 2).sum() / target.shape[1], abs=1e-6
    )


def test_energy_that_the_first_probe_never_saw_is_outside() -> None:
    probe = network(n=30, p=80)
    fresh = network(seed=1, p=80)
    diagnosis = probe.diagnose()
    found = fresh.judge(diagnosis)
    phi = fresh.phi.astype(np.float64)
    rest = phi - phi @ diagnosis.eigenvectors @ diagnosis.eigenvectors.T
    outside = (rest**2).sum() / (phi**2).sum()
    assert outside > 0.01
    assert found.projections.energy_outside == pytest.approx(outside, abs=1e-10)
    centered_phi = centered(phi)
    vectors = diagnosis.centered_eigenvectors
    rest = centered_phi - centered_phi @ vectors @ vectors.T
    centered_outside = (rest**2).sum() / (centered_phi**2).sum()
    assert found.centered_projections.energy_outside == pytest.approx(centered_outside, abs=1e-10)
    for share, intervals in (
        (outside, found.confidence_interval),
        (centered_outside, found.centered_confidence_interval),
    ):
        interval = intervals["energy_outside"]
        assert interval is not None
        assert interval[0] < share < interval[1]


def test_all_answers_right_are_not_certain_to_stay_so() -> None:
    labels = np.arange(200) % CLASSES
    fresh = network(seed=1, n=200)
    sure = Sample(fresh.phi, 9 * np.eye(CLASSES)[labels], np.eye(CLASSES)[labels])
    found = sure.judge(network().diagnose())
    assert found.confidence_interval["accuracy"] == pytest.approx((0.981, 1.0), abs=1e-3)
    skill = found.evidence.skill_interval
    assert skill == pytest.approx((1 - 0.01884 / 0.8, 1.0), abs=1e-4)


def test_features_that_vanish_on_the_second_probe_count_for_nothing() -> None:
    probe, fresh = network(p=12), network(seed=1, p=12)
    probe.phi[:, 6:] *= 1e-3
    fresh.phi[:, 3:] = 0
    dead = np.zeros_like(fresh.phi)
    diagnosis = probe.diagnose()
    projections = fresh.judge(diagnosis).projections
    assert (projections.eigenvalues >= 0).all()
    assert projections.energy_outside == pytest.approx(0, abs=1e-10)
    nothing = Sample(dead, fresh.outputs, fresh.targets).judge(diagnosis)
    assert not nothing.projections.eigenvalues.any()
    assert nothing.projections.quality is not None
    assert not nothing.projections.quality.any()
    assert nothing.projections.energy_outside is None
    assert nothing.centered_projections.energy_outside is None
    assert nothing.minimality.utilization is nothing.minimality.energy is None
    assert nothing.projections.quality_at_dim_target == 0


def test_features_constant_on_the_first_probe_have_no_centred_eigenfunctions() -> None:
    fresh = network(seed=1)
    diagnosis = Sample(np.ones_like(fresh.phi), fresh.outputs, fresh.targets).diagnose()
    found = fresh.judge(diagnosis)
    assert found.centered_projections.eigenvalues.shape == (0,)
    assert found.centered_projections.quality_at_dim_target is None
    assert found.centered_projections.energy_outside == 1
    assert found.minimality.utilization is None


def test_without_targets_there_is_what_needs_none() -> None:
    labelled = network(seed=1)
    diagnosis = network().diagnose()
    fresh = Sample(labelled.phi, labelled.outputs, labelled.targets[:, :0])
    found, whole = fresh.judge(diagnosis), labelled.judge(diagnosis)
    np.testing.assert_allclose(
        found.projections.utilization, whole.projections.utilization, rtol=1e-10, atol=1e-14
    )
    assert found.projections.quality is None
    assert found.evidence.quality is found.evidence.quality_chance is None
    assert found.performance is None
    assert found.confidence_interval["accuracy"] is None
    assert found.confidence_interval["quality_at_dim_target"] is None
    assert found.confidence_interval["utilization"] == pytest.approx(
        whole.confidence_interval["utilization"]
    )


def test_classes_the_second_probe_lacks_do_not_count() -> None:
    fresh = network(seed=1)
    part = fresh[fresh.targets[:, :3].any(1)]
    found = Sample(part.phi, part.outputs, part.targets[:, :3]).judge(network().diagnose())
    assert found.projections.dim_target == 3
    assert found.minimality.rank == CLASSES - 1


def test_intervals_cover_the_figures_of_many_fresh_samples() -> None:
    diagnosis = network().diagnose()
    large = network(seed=1, n=20_000).judge(diagnosis)
    truth = {
        "quality_at_dim_target": large.projections.quality_at_dim_target,
        "utilization": large.minimality.utilization,
        "energy": large.minimality.energy,
        "accuracy": None if large.performance is None else large.performance.accuracy,
        "loss": None if large.performance is None else large.performance.loss,
    }
    projections, centered = large.projections, large.centered_projections
    counts = ("dim_target", "dim_learned")
    truth |= {name: getattr(projections, name) for name in counts}
    truth |= {f"centered.{name}": getattr(centered, name) for name in counts}
    truth |= {"rank": large.minimality.rank}
    truth["centered.quality_at_dim_target"] = centered.quality_at_dim_target
    trials = [network(seed=seed, n=600).judge(diagnosis) for seed in range(2, 22)]
    for name, value in truth.items():
        part, _, short = name.rpartition(".")
        intervals = [
            (trial.centered_confidence_interval if part else trial.confidence_interval)[short]
            for trial in trials
        ]
        held = [low <= value <= high for low, high in filter(None, intervals) if value is not None]
        assert len(held) == len(trials)
        assert np.mean(held) >= 0.8, name


def test_positions_of_a_sample_share_a_fold() -> None:
    """Rows that repeat within a sample make no interval narrower."""
    diagnosis = network().diagnose()
    fresh = network(seed=1, n=300)
    repeated = fresh[np.repeat(np.arange(300), 8)]
    once = fresh.judge(diagnosis)
    many = repeated.judge(diagnosis, batch=80, positions=8)
    for name, interval in once.confidence_interval.items():
        # How many rows of accuracy are independent is itself an estimate.
        tolerance = 0.02 if name == "accuracy" else None
        assert many.confidence_interval[name] == pytest.approx(interval, rel=tolerance), name
    for name, interval in once.centered_confidence_interval.items():
        assert many.centered_confidence_interval[name] == pytest.approx(interval, abs=1e-9), name


def test_too_few_samples_and_what_is_not_finite_are_refused() -> None:
    diagnosis = network().diagnose()
    fresh = network(seed=1)
    with pytest.raises(TooFewSamplesError, match="There are 9 samples, at least 10"):
        fresh[:9].judge(diagnosis)
    fresh.phi[3, 2] = np.nan
    with pytest.raises(NonFiniteError, match="1 of"):
        fresh.judge(diagnosis)
    large = Sample(fresh.phi.astype(np.float64), fresh.outputs, fresh.targets)
    large.phi[3, 2] = 1e200
    with pytest.raises(NonFiniteError, match="too large to be squared"):
        large.judge(diagnosis)

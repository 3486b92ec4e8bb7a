"""More classes than features or samples: figures against a float64 SVD of outputs and labels."""

from dataclasses import asdict, dataclass, replace
from functools import reduce
from operator import add

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from samples import diagnosed

from workers.diagnostics import (
    Answer,
    Diagnosis,
    HeldOut,
    HeldOutSums,
    IncompatibleShapesError,
    Moments,
    Rows,
    held_out,
)
from workers.diagnostics.class_sums import indicators
from workers.diagnostics.folds import Folds
from workers.diagnostics.layer_sums import LayerSums
from workers.diagnostics.layers import diagnose_layer
from workers.diagnostics.output_space import OutputSpace


@dataclass(frozen=True)
class Network:
    """Features, the head that gives the outputs of them, and labels of many classes."""

    phi: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    labels: np.ndarray
    balanced: bool = False
    known_head: bool = True

    @property
    def classes(self) -> int:
        return len(self.weight)

    @property
    def outputs(self) -> np.ndarray:
        outputs: np.ndarray = self.phi @ self.weight.T + self.bias
        return outputs

    @property
    def targets(self) -> np.ndarray:
        targets: np.ndarray = np.eye(self.classes)[self.labels]
        return targets

    @property
    def weights(self) -> np.ndarray:
        if not self.balanced:
            return np.ones(len(self.phi))
        counts = np.bincount(self.labels, minlength=self.classes)
        weights: np.ndarray = len(self.phi) / (counts > 0).sum() / counts[self.labels]
        return weights

    @property
    def space(self) -> OutputSpace:
        weight, bias = (torch.from_numpy(each) for each in (self.weight, self.bias))
        return OutputSpace.of_head(self.classes, weight if self.known_head else None, bias)

    def rows(self) -> Rows:
        return Rows(
            torch.from_numpy(self.phi),
            torch.from_numpy(self.outputs.argmax(1)),
            torch.from_numpy(self.labels),
            decide=lambda outputs: outputs.argmax(1),
        )

    def diagnose(self, *, by_class: bool = True, positions: int = 1, batch: int = 64) -> Diagnosis:
        """As an analysis does it, or with indicators and outputs as they are."""
        space = self.space if by_class else OutputSpace(self.classes)
        folds = Folds(
            len(self.phi) // positions,
            positions=positions,
            classes=self.classes if by_class else None,
        )
        targets = torch.from_numpy(self.labels if by_class else self.targets)
        for start in range(0, len(self.phi), batch * positions):
            rows = slice(start, start + batch * positions)
            folds.update(
                torch.from_numpy(self.phi[rows]),
                space.coordinates(torch.from_numpy(self.outputs[rows])),
                targets[rows],
                torch.from_numpy(self.weights[rows]) if self.balanced else None,
            )
        return diagnosed(
            folds.moments(),
            task="classification",
            positions=positions,
            head=torch.from_numpy(self.weight),
            rows=self.rows(),
            basis=folds.basis,
            space=space.within(folds.output_basis),
        )


def network(
    *, classes: int, p: int, n: int, seed: int = 0, known_head: bool = True, balanced: bool = False
) -> Network:
    """ReLU features about class means, and a head that partly reads these."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    several = n // 8
    labels[: 2 * several] = labels[:several].repeat(2)
    means = rng.normal(size=(classes, p))
    scales = np.logspace(0, -1.0, p)
    phi = np.maximum(means[labels] * scales + 0.5 * rng.normal(size=(n, p)) * scales, 0)
    weight = means + 0.5 * rng.normal(size=(classes, p))
    return Network(phi, weight, rng.normal(size=classes), labels, balanced, known_head)


NETWORKS = {
    "few samples": network(classes=300, p=20, n=200),
    "fewer samples than classes": network(classes=2500, p=32, n=300),
    "fewer samples than features": network(classes=300, p=120, n=80),
    "more samples than classes": network(classes=60, p=20, n=400),
    "balanced": network(classes=80, p=20, n=300, balanced=True),
    "no head, few samples": network(classes=300, p=20, n=200, known_head=False),
    "no head, more samples": network(classes=60, p=20, n=400, known_head=False),
    "no head, fewer than features": network(classes=300, p=120, n=80, known_head=False),
}
networks = pytest.mark.parametrize("sample", NETWORKS.values(), ids=NETWORKS)
# Those whose indicators and outputs can be summed as they are.
SMALL = {name: sample for name, sample in NETWORKS.items() if sample.classes <= 300}


def basis(functions: np.ndarray, tolerance: float) -> np.ndarray:
    left, singular, _ = np.linalg.svd(functions, full_matrices=False)
    return left[:, singular > tolerance * singular[0]]


def weighted(sample: Network, *, center: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, outputs, targets, so that plain products are averages over the samples."""
    shares = (sample.weights / sample.weights.sum())[:, None]
    arrays = (sample.phi, sample.outputs, sample.targets)
    if center:
        arrays = tuple(array - (shares * array).sum(0) for array in arrays)
    phi, outputs, targets = (np.sqrt(shares) * array for array in arrays)
    return phi, outputs, targets


def eigenfunctions(phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    left, singular, _ = np.linalg.svd(phi, full_matrices=False)
    rank = (singular > singular[0] * phi.shape[1] * np.finfo(np.float32).eps).sum()
    return singular[:rank] ** 2, left[:, :rank]


@pytest.mark.parametrize("center", [False, True])
@networks
def test_spectrum_and_projections_equal_the_definitions(sample: Network, *, center: bool) -> None:
    phi, outputs, targets = weighted(sample, center=center)
    eigenvalues, functions = eigenfunctions(phi)
    quality = ((functions.T @ basis(targets, 1e-6)) ** 2).sum(1)
    utilization = ((functions.T @ basis(outputs, 1e-6)) ** 2).sum(1)
    found = sample.diagnose()
    spectrum = found.spectrum.centered if center else found.spectrum
    projections = found.centered_projections if center else found.projections
    np.testing.assert_allclose(spectrum.eigenvalues, eigenvalues, rtol=1e-8)
    assert projections.quality is not None
    np.testing.assert_allclose(projections.quality, quality, atol=1e-8)
    np.testing.assert_allclose(projections.utilization, utilization, atol=1e-8)
    present = len(np.unique(sample.labels))
    assert projections.dim_target == basis(targets, 1e-6).shape[1] == present - center
    assert projections.dim_learned == basis(outputs, 1e-6).shape[1]
    assert projections.cumulative_quality is not None
    np.testing.assert_allclose(
        projections.cumulative_quality, quality.cumsum() / (present - center), atol=1e-8
    )


@networks
def test_alignments_equal_their_definition_on_kernel_matrices(sample: Network) -> None:
    phi, outputs, targets = weighted(sample, center=True)
    given = basis(weighted(sample, center=False)[1], 1e-6)
    ones = np.sqrt(sample.weights / sample.weights.sum())
    learned = given - np.outer(ones, ones @ given)

    def cka(first: np.ndarray, second: np.ndarray) -> float:
        a, b = first @ first.T, second @ second.T
        return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))

    found = sample.diagnose().alignment
    assert found.d_lr == pytest.approx(1 - cka(phi, learned), abs=1e-8)
    assert found.cka_target == pytest.approx(cka(phi, targets), abs=1e-8)
    assert found.cka_outputs == pytest.approx(cka(phi, outputs), abs=1e-8)


@networks
def test_minimality_equals_its_definition_on_the_cleaned_space(sample: Network) -> None:
    phi, outputs, _ = weighted(sample, center=True)
    eigenvalues, functions = eigenfunctions(phi)
    learned = basis(outputs - outputs.mean(1, keepdims=True), 1e-3)
    r = learned.shape[1]
    utilization = ((functions.T @ learned) ** 2).sum(1)
    kernel, projection = phi @ phi.T, learned @ learned.T
    distance = 1 - (kernel * projection).sum() / np.linalg.norm(kernel) / np.linalg.norm(projection)
    found = sample.diagnose().verdict.minimality
    assert found.rank == r
    assert found.utilization == pytest.approx(utilization[:r].mean(), abs=1e-8)
    assert found.energy == pytest.approx(eigenvalues[:r].sum() / (phi**2).sum(), abs=1e-8)
    assert found.distance == pytest.approx(distance, abs=1e-8)


@networks
def test_neural_collapse_equals_its_definitions(sample: Network) -> None:
    classes = np.unique(sample.labels)
    count = len(classes)
    means = np.array([sample.phi[sample.labels == c].mean(0) for c in classes])
    between = means - means.mean(0)
    gram = between @ between.T
    norms = np.sqrt(gram.diagonal())
    cosines = (gram / np.outer(norms, norms))[~np.eye(count, dtype=bool)]
    simplex = (np.eye(count) - 1 / count) / np.sqrt(count - 1)
    deviations = sample.phi - means[np.searchsorted(classes, sample.labels)]
    shares = sample.weights / sample.weights.sum()
    sigma_w = (shares[:, None] * deviations).T @ deviations
    inverse = np.linalg.pinv(between.T @ between / count, rcond=1e-12, hermitian=True)
    rows = sample.weight[classes]
    found = sample.diagnose().neural_collapse
    assert found is not None
    assert found.nc1 == pytest.approx(np.trace(sigma_w @ inverse) / count, rel=1e-7)
    assert found.nc1_quotient == pytest.approx(
        np.trace(sigma_w) / (between**2).sum() * count, rel=1e-8
    )
    assert found.nc2_equinorm_means == pytest.approx(norms.std() / norms.mean(), abs=1e-8)
    assert found.nc2_equiangle_means == pytest.approx(cosines.std(), abs=1e-8)
    expected = np.linalg.norm(gram / np.linalg.norm(gram) - simplex)
    assert found.nc2_etf_means == pytest.approx(expected, abs=1e-8)
    apart = rows / np.linalg.norm(rows) - between / np.linalg.norm(between)
    assert found.nc3 == pytest.approx((apart**2).sum(), abs=1e-8)


@networks
def test_nearest_means_and_the_compression_curve_equal_their_definitions(sample: Network) -> None:
    classes = np.unique(sample.labels)
    means = np.array([sample.phi[sample.labels == c].mean(0) for c in classes])
    distances = ((sample.phi[:, None] - means) ** 2).sum(2)
    answers = sample.outputs.argmax(1)
    found = sample.diagnose()
    assert found.nc4 == pytest.approx((classes[distances.argmin(1)] != answers).mean())
    phi, outputs, _ = weighted(sample, center=True)
    _, functions = eigenfunctions(phi)
    root = np.sqrt(sample.weights / sample.weights.sum())[:, None]
    mean = (root * root * sample.outputs).sum(0)
    cleaned = outputs - outputs.mean(1, keepdims=True)
    for point in found.compression:
        leading = functions[:, : point.k]
        told = (mean + leading @ (leading.T @ outputs) / root).argmax(1)
        assert point.agreement == pytest.approx((told == answers).mean(), abs=2 / len(phi))
        assert point.accuracy == pytest.approx((told == sample.labels).mean(), abs=2 / len(phi))
        left = cleaned - leading @ (leading.T @ cleaned)
        error = np.linalg.norm(left) / np.linalg.norm(cleaned)
        assert point.output_error == pytest.approx(error, abs=1e-7)


def assert_equal(found: object, expected: object, *, atol: float = 1e-7) -> None:
    """Compare figures, nested as they are, to so many digits."""
    if isinstance(expected, dict):
        assert isinstance(found, dict)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_equal(found[name], value, atol=atol)
    elif isinstance(expected, np.ndarray | float | tuple) and expected is not None:
        np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=atol, rtol=atol)
    else:
        assert found == expected


@pytest.mark.parametrize("positions", [1, 4])
@pytest.mark.parametrize("sample", SMALL.values(), ids=SMALL)
def test_intervals_are_those_of_indicators_and_outputs_as_they_are(
    sample: Network, positions: int
) -> None:
    found, expected = (sample.diagnose(by_class=way, positions=positions) for way in (True, False))
    assert_equal(found.confidence_interval, expected.confidence_interval, atol=1e-5)
    assert found.verdict.warnings == expected.verdict.warnings
    assert found.verdict.reasons == expected.verdict.reasons


def judged(sample: Network, diagnosis: Diagnosis, *, by_class: bool) -> HeldOut:
    sums = HeldOutSums(
        diagnosis,
        len(sample.phi),
        Answer.of_logits("classification", sample.classes),
        sample.space if by_class else OutputSpace(sample.classes),
        targets=sample.classes,
        by_class=by_class,
    )
    targets = sample.labels if by_class else sample.targets
    for start in range(0, len(sample.phi), 100):
        rows = slice(start, start + 100)
        arrays = (sample.phi[rows], sample.outputs[rows], targets[rows], sample.weights[rows])
        sums.update(*(torch.from_numpy(array) for array in arrays))
    return held_out(sums)


@pytest.mark.parametrize("balanced", [False, True])
def test_held_out_figures_are_those_of_indicators_and_outputs_as_they_are(
    *, balanced: bool
) -> None:
    first = network(classes=70, p=20, n=300)
    second = replace(
        network(classes=70, p=20, n=250, seed=1, balanced=balanced),
        weight=first.weight,
        bias=first.bias,
    )
    diagnosis = first.diagnose()
    found, expected = (asdict(judged(second, diagnosis, by_class=way)) for way in (True, False))
    assert_equal(found, expected)


@pytest.mark.parametrize("in_folds", [False, True])
def test_layers_are_summed_by_class(*, in_folds: bool) -> None:
    sample = network(classes=70, p=20, n=300)
    layers = [torch.from_numpy(sample.phi), torch.from_numpy(sample.phi[:, :7] ** 2)]
    found = []
    for by_class in (True, False):
        sums = LayerSums(
            [20, 7],
            n=300,
            in_folds=[in_folds] * 2,
            classes=sample.classes if by_class else None,
        )
        targets = torch.from_numpy(sample.labels if by_class else sample.targets)
        space = sample.space if by_class else OutputSpace(sample.classes)
        for start in range(0, 300, 90):
            rows = slice(start, start + 90)
            outputs = space.coordinates(torch.from_numpy(sample.outputs[rows]))
            sums.update([layer[rows] for layer in layers], outputs, targets[rows])
        diagnoses = [diagnose_layer(folds) for folds in sums.moments()]
        found.append({str(k): asdict(each) for k, each in enumerate(diagnoses) if each})
    assert len(found[0]) == 2
    assert_equal(*found)


def by_class(labels: torch.Tensor, *, classes: int = 9, seed: int = 0) -> Moments:
    generator = torch.Generator().manual_seed(seed)
    moments = Moments.zeros(4, 3, classes, by_class=True)
    phi, outputs = (torch.randn(len(labels), width, generator=generator) for width in (4, 3))
    moments.update(phi, outputs, labels)
    return moments


def test_sums_by_class_have_columns_for_the_classes_that_occur() -> None:
    first, second = by_class(torch.tensor([7, 2, 7])), by_class(torch.tensor([0, 2]), seed=1)
    both = first + second
    assert both.classes is not None
    assert both.classes.tolist() == [0, 2, 7]
    assert both.y_count.tolist() == [1, 0, 2, 0, 0, 0, 0, 2, 0]
    assert both.phi_y.shape == (4, 3)
    torch.testing.assert_close(both.phi_y.sum(1), both.phi)
    torch.testing.assert_close(both.f_y.sum(1), both.f)
    left = both.without(second)
    assert left.classes is not None
    assert left.classes.tolist() == [2, 7]
    torch.testing.assert_close(left.phi_y, first.phi_y)


def test_sums_by_class_survive_a_file() -> None:
    moments = by_class(torch.tensor([7, 2, 7]))
    arrays = load(save(moments.to_arrays()))
    assert arrays["y_classes"].tolist() == [2, 7]
    assert "y_y" not in arrays
    restored = Moments.from_arrays(arrays)
    for name, values in moments.to_arrays().items():
        np.testing.assert_array_equal(restored.to_arrays()[name], values)
    with pytest.raises(IncompatibleShapesError, match="y_classes must ascend"):
        Moments.from_arrays({**arrays, "y_classes": np.array([2, 9])})


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(IncompatibleShapesError, match="from 0 to 8"):
        by_class(torch.tensor([1, 9]))
    moments = by_class(torch.tensor([1]))
    with pytest.raises(IncompatibleShapesError, match=r"labels .* \(1, 9\), expected \(1,\)"):
        moments.update(torch.ones(1, 4), torch.ones(1, 3), torch.ones(1, 9))
    values = Moments.zeros(4, 3, 9)
    with pytest.raises(IncompatibleShapesError, match="one is of classes"):
        reduce(add, [moments, values])


def test_coordinates_keep_outputs_whatever_the_head() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(50, 6))
    weight[:, 3] = 0.0
    weight[:, 5] = 1e6 * weight[:, 4]
    for bias in (None, np.zeros(50), 1e-6 * rng.normal(size=50)):
        tensor = None if bias is None else torch.from_numpy(bias)
        space = OutputSpace.of_head(50, torch.from_numpy(weight), tensor)
        outputs = torch.from_numpy(rng.normal(size=(9, 6)) @ weight.T)
        if tensor is not None:
            outputs = outputs + tensor
        assert space.size == (6 if bias is None else 7)
        coordinates = space.coordinates(outputs)
        torch.testing.assert_close(space.expand(coordinates), outputs, rtol=0, atol=1e-8)
        cleaned, expected = space.without_mean(coordinates), outputs - outputs.mean(1, keepdim=True)
        scale = float(outputs.square().sum())
        torch.testing.assert_close(
            cleaned @ cleaned.T / scale, expected @ expected.T / scale, rtol=0, atol=1e-14
        )


def test_a_mean_that_all_outputs_share_leaves_nothing() -> None:
    """The rows of ones are in the head's space: what is left of them is rounding, not 1e-8."""
    weight = torch.ones(40, 2, dtype=torch.float64)
    weight[:, 1] = torch.arange(40)
    space = OutputSpace.of_head(40, weight, None)
    coordinates = space.coordinates(torch.ones(1, 40, dtype=torch.float64))
    assert float(space.without_mean(coordinates).norm()) < 1e-14


def test_indicators_have_a_one_in_each_row() -> None:
    classes, values = indicators(torch.tensor([5, 5, 3]))
    assert classes.tolist() == [3, 5]
    assert values.tolist() == [[0, 1], [0, 1], [1, 0]]

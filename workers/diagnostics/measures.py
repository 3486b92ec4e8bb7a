"""From inner products and spectra to every scalar figure, of all samples or all but one fold's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
from torch import Tensor

from workers.diagnostics.alignment import Alignment, alignments
from workers.diagnostics.averages import Averages
from workers.diagnostics.figures import (
    Sizes,
    Values,
    counted_features,
    figure,
    positive,
)
from workers.diagnostics.minimality import (
    Minimality,
    learned_basis,
    minimality,
    without_mean_output,
)
from workers.diagnostics.moments import Moments
from workers.diagnostics.neural_collapse import NeuralCollapse, neural_collapse
from workers.diagnostics.orthonormal import Basis
from workers.diagnostics.output_space import OutputSpace
from workers.diagnostics.performance import Task
from workers.diagnostics.projections import Projections, projected
from workers.diagnostics.ranks import EffectiveRank
from workers.diagnostics.spectra import Pair


@dataclass(frozen=True, eq=False)
class CenteredSpectrum:
    """Spectrum of the centred features.

    Attributes:
        eigenvalues: `(rank,)`, decreasing, in units of the features squared.
        relative: `ρ_k/ρ_1`.
        rank: Numerical rank.
    """

    eigenvalues: np.ndarray
    relative: np.ndarray
    rank: int = figure(counted_features, rounding="outwards", of_tail=True)


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Spectrum of the uncentred features.

    Attributes:
        eigenvalues: `(rank,)`, decreasing, in units of the features squared.
        relative: `ρ_k/ρ_1`.
        trace: `Σρ` of all eigenvalues, including those past the rank.
        rank: Numerical rank.
        centered: Spectrum of the centred features.
    """

    eigenvalues: np.ndarray
    relative: np.ndarray
    trace: float = figure(positive)
    rank: int = figure(counted_features, rounding="outwards", of_tail=True)
    centered: CenteredSpectrum = field(kw_only=True)


GROUPS: Mapping[str, type] = {
    "verdict": Minimality,
    "alignment": Alignment,
    "effective_rank": EffectiveRank,
    "effective_rank.uncentered": EffectiveRank,
    "spectrum": Spectrum,
    "spectrum.centered": CenteredSpectrum,
    "projections": Projections,
    "projections.centered": Projections,
    "neural_collapse": NeuralCollapse,
}
"""The groups of figures, by part of the report."""


@dataclass(frozen=True, eq=False)
class Model:
    """Facts about a model that the sums do not hold.

    Attributes:
        task: What the outputs predict: a class, which of several labels apply, or values.
        head: Weights of the final linear layer `(c, p)`, for NC3; None if they are not known.
        classes: Number of classes that the model distinguishes; None if not known. Labels may name
            fewer.
        precision: Machine epsilon of the features as the model gave them, if coarser than that of
            float32, which the numerical rank assumes.
    """

    task: Task
    head: Tensor | None = None
    classes: int | None = None
    precision: float | None = None


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Coordinate systems of the sums.

    Attributes:
        basis: `(p, q)`, orthonormal columns, if the sums are over the features' coordinates in this
            basis (see `Folds`); None: over the features themselves.
        space: Output space in whose coordinates the sums are; None: they are over the outputs
            themselves.
    """

    basis: Tensor | None = None
    space: OutputSpace | None = None


@dataclass(frozen=True)
class Tolerances:
    """Which directions of the outputs count: singular values above these shares of the first.

    Attributes:
        outputs: For `dim Ĥ`, and so for D_LR.
        verdict: For r, the rank of the cleaned outputs.
    """

    outputs: float = 1e-6
    verdict: float = 1e-3


@dataclass(frozen=True, eq=False)
class Setting:
    """Everything besides the sums that the figures depend on.

    Attributes:
        task: What the outputs predict.
        head: Weights of the final linear layer `(c, p)`; None if they are not known.
        basis: `(p, q)` if the sums are over the features' coordinates in it; None: over the
            features.
        space: Output space in whose coordinates the sums are.
        features: Number of features, p.
        targets: Number of targets, d; 0 without targets.
        tolerances: Which directions of the outputs count.
    """

    task: Task
    head: Tensor | None
    basis: Tensor | None
    space: OutputSpace
    features: int
    targets: int
    tolerances: Tolerances

    @classmethod
    def of(
        cls, total: Moments, model: Model, coordinates: Coordinates, tolerances: Tolerances
    ) -> Self:
        """Build the setting for these sums."""
        basis, space = coordinates.basis, coordinates.space
        return cls(
            task=model.task,
            head=None if model.head is None else model.head.to(total.device),
            basis=basis,
            space=OutputSpace(total.c, device=total.device) if space is None else space,
            features=total.p if basis is None else basis.shape[0],
            targets=total.d,
            tolerances=tolerances,
        )

    @property
    def has_classes(self) -> bool:
        """Whether there are mutually exclusive classes."""
        return self.task == "classification" and self.targets > 0

    def sizes(self, directions: int) -> Sizes:
        """Return the sizes that bound figures that are counts."""
        return Sizes(self.features, directions, self.targets, self.space.outputs)

    def learned(self, centered: Averages) -> "Learned":
        """Compute the cleaned learned space from centred inner products."""
        cleaned = without_mean_output(centered, self.task, self.space)
        return Learned(cleaned, learned_basis(cleaned, tolerance=self.tolerances.verdict))


class Learned(NamedTuple):
    """The cleaned learned space.

    Attributes:
        cleaned: Centred inner products with cleaned outputs.
        basis: Orthonormal basis of the space, in terms of the cleaned outputs.
    """

    cleaned: Averages
    basis: Basis


class Subject(NamedTuple):
    """One or several sets of samples, in the form that figures are computed from.

    Attributes:
        raw: Uncentred inner products; `measured` does not read their `phi_phi`.
        centered: Centred inner products.
        learned: The cleaned learned space.
        spectra: Spectra of the features.
        directions: Independent directions that the features could use, `(...,)`.
    """

    raw: Averages
    centered: Averages
    learned: Learned
    spectra: Pair
    directions: Tensor


def measured(subject: Subject, setting: Setting) -> dict[str, Values]:
    """Compute all scalar figures, and the vectors found on the way, by part of the report.

    Args:
        subject: One or several sets of samples.
        setting: What the figures depend on.

    Returns:
        The figures of each part in `GROUPS`; without classes there is no neural collapse.
    """
    raw, centered, (cleaned, basis), spectra, directions = subject
    tolerance = setting.tolerances.outputs
    found = {
        "verdict": minimality(
            cleaned,
            spectra.centered.pairs,
            basis,
            directions=directions,
            k95_energy=spectra.centered.k95_energy,
        ),
        "alignment": alignments(raw, centered, output_tolerance=tolerance),
        "effective_rank": spectra.centered.effective,
        "effective_rank.uncentered": spectra.raw.effective,
        "spectrum": {
            "trace": centered.phi_size.trace + raw.phi.square().sum(-1),
            "rank": spectra.raw.rank,
        },
        "spectrum.centered": {"rank": spectra.centered.rank},
        "projections": projected(raw, spectra.raw.pairs, output_tolerance=tolerance),
        "projections.centered": projected(
            centered, spectra.centered.pairs, output_tolerance=tolerance
        ),
    }
    if setting.has_classes:
        found["neural_collapse"] = neural_collapse(raw, centered, setting.head, basis=setting.basis)
    return found

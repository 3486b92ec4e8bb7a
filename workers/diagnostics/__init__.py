"""Pure numerics: from sums over samples to spectra, projections, alignments and the MF/EF verdict.

Feed batches to `Moments` (one per fold), then call `diagnose`. Nothing here reads a file or opens a
model; of the service, only the verdict's constants (`service.contract.rule`) are imported.
"""

from workers.diagnostics.alignment import Alignment
from workers.diagnostics.answer import Answer, LossKind
from workers.diagnostics.assessment import Assessment, assess
from workers.diagnostics.averages import Averages
from workers.diagnostics.compression import CompressedModel, Rows
from workers.diagnostics.diagnosis import (
    MIN_FOLDS,
    MIN_SAMPLES,
    Diagnosis,
    diagnose,
)
from workers.diagnostics.errors import (
    DegenerateFeaturesError,
    DiagnosticsError,
    IncompatibleShapesError,
    NonFiniteError,
    TooFewSamplesError,
)
from workers.diagnostics.evidence import Evidence
from workers.diagnostics.explanation import unexplained
from workers.diagnostics.held_out import HeldOut, HeldOutMinimality, held_out
from workers.diagnostics.held_out_projections import HeldOutProjections
from workers.diagnostics.held_out_sums import HeldOutSums
from workers.diagnostics.intervals import Interval
from workers.diagnostics.measures import (
    CenteredSpectrum,
    Coordinates,
    Model,
    Spectrum,
    Tolerances,
)
from workers.diagnostics.minimality import Minimality
from workers.diagnostics.moments import Moments
from workers.diagnostics.neural_collapse import NeuralCollapse
from workers.diagnostics.performance import LabelCounts, Performance, Task
from workers.diagnostics.projections import Projections
from workers.diagnostics.ranking import AveragePrecision, RankedLabels, average_precision
from workers.diagnostics.ranks import EffectiveRank
from workers.diagnostics.uncertainty import performance_intervals
from workers.diagnostics.verdict import Regime, Verdict

__all__ = [
    "MIN_FOLDS",
    "MIN_SAMPLES",
    "Alignment",
    "Answer",
    "Assessment",
    "AveragePrecision",
    "Averages",
    "CenteredSpectrum",
    "CompressedModel",
    "Coordinates",
    "DegenerateFeaturesError",
    "Diagnosis",
    "DiagnosticsError",
    "EffectiveRank",
    "Evidence",
    "HeldOut",
    "HeldOutMinimality",
    "HeldOutProjections",
    "HeldOutSums",
    "IncompatibleShapesError",
    "Interval",
    "LabelCounts",
    "LossKind",
    "Minimality",
    "Model",
    "Moments",
    "NeuralCollapse",
    "NonFiniteError",
    "Performance",
    "Projections",
    "RankedLabels",
    "Regime",
    "Rows",
    "Spectrum",
    "Task",
    "Tolerances",
    "TooFewSamplesError",
    "Verdict",
    "assess",
    "average_precision",
    "diagnose",
    "held_out",
    "performance_intervals",
    "unexplained",
]

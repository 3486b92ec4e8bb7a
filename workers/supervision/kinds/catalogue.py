"""Which kinds of jobs there are."""

from collections.abc import Mapping
from types import MappingProxyType

from service.tables.jobs import JobKind
from workers.supervision.kinds.analysis import AnalysisKind
from workers.supervision.kinds.inspection import InspectionKind
from workers.supervision.kinds.kind import Kind
from workers.supervision.kinds.probe import ProbeKind

KINDS: Mapping[JobKind, Kind] = MappingProxyType(
    {
        JobKind.ANALYSIS: AnalysisKind(),
        JobKind.PROBE: ProbeKind(),
        JobKind.INSPECTION: InspectionKind(),
    }
)

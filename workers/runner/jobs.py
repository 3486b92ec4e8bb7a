"""What a child can be asked to do."""

from collections.abc import Mapping
from types import MappingProxyType

from workers.analysis.job import analyse
from workers.inspection.job import inspect_model
from workers.probes.job import validate_probe
from workers.runner.protocol import Job

JOBS: Mapping[str, Job] = MappingProxyType(
    {"analyse": analyse, "inspect_model": inspect_model, "validate_probe": validate_probe}
)

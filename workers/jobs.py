"""What a child can be asked to do."""

import io
import os
from collections.abc import Iterator, Mapping
from itertools import product
from types import MappingProxyType

import numpy as np
from pydantic import JsonValue
from safetensors.numpy import save

from service.contract.inspection import InspectionRequest
from service.contract.options import Options
from service.contract.probe_spec import ProbeSpec
from workers.analysis.job import analyse
from workers.child import gpu
from workers.child.warmup import SMALL_SHAPE, small_archive
from workers.inspection.job import inspect_model
from workers.probes.job import validate_probe
from workers.probes.rehearsal import probe_files
from workers.protocol.arguments import AnalysisArguments, ProbeLimits
from workers.protocol.errors import JobError
from workers.protocol.progress import ProgressWriter
from workers.protocol.requests import Job
from workers.protocol.result import encode_failure, encode_result

JOBS: Mapping[str, Job] = MappingProxyType(
    {
        "analyse": analyse,
        "describe_gpu": gpu.describe,
        "inspect_model": inspect_model,
        "validate_probe": validate_probe,
    }
)

_SAMPLES, _CLASSES = 24, 4
_GIB = 1 << 30


def rehearse() -> None:
    """Do each job once on small files of our own, and once on a file that is none.

    Whatever is imported, decoded or opened on the way is at hand from then on: a child can open
    nothing.
    """
    x = np.zeros((_SAMPLES, *SMALL_SHAPE), np.float32)
    x[:, 0] = np.arange(_SAMPLES)[:, None, None]
    y = np.arange(_SAMPLES) % _CLASSES
    compressed, written = io.BytesIO(), io.BytesIO()
    np.savez_compressed(compressed, x=x, y=y)
    np.savez(written, x=x, y=y.astype(np.bytes_))
    probes = (compressed.getvalue(), written.getvalue(), save({"x": x, "y": y}), b"neither")
    for model, probe in product((small_archive(), b"none"), probes):
        for kind, arguments, files in _requests(model, probe):
            _run(JOBS[kind], arguments, files)
    for probe in probe_files():
        _run(JOBS["validate_probe"], {"spec": {}, "max_bytes": _GIB}, (probe,))


def _requests(
    model: bytes, probe: bytes
) -> Iterator[tuple[str, dict[str, JsonValue], tuple[bytes, ...]]]:
    spec = ProbeSpec(format="npz" if probe[:2] == b"PK" else "safetensors", input="x", target="y")
    yield "validate_probe", {"spec": spec.model_dump(mode="json"), "max_bytes": _GIB}, (probe,)
    yield "inspect_model", InspectionRequest(inputs=None).model_dump(mode="json"), (model,)
    analysis = AnalysisArguments(
        spec=spec,
        eval_spec=spec,
        limits=ProbeLimits(max_array_bytes=_GIB),
        layers_bytes=_GIB,
        memory_bytes=_GIB,
        result_bytes=_GIB,
        options=Options(layers="all"),
    )
    yield "analyse", analysis.model_dump(mode="json"), (model, probe, probe)


def _run(job: Job, arguments: dict[str, JsonValue], files: tuple[bytes, ...]) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        encode_result(job(arguments, [io.BytesIO(file) for file in files], ProgressWriter(nowhere)))
    except JobError as error:
        encode_failure(error.failure)
    finally:
        os.close(nowhere)

"""The files that come out of an analysis: those of the child, checked, and a table for people."""

import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from service.platform.storage import BlobStore
from service.report.document import Report
from workers.protocol.errors import ResultError

_SAFETENSORS = "application/vnd.safetensors"
_LEFT_BY_CHILD = {"eigenfunctions.safetensors", "moments.safetensors"}


@dataclass(frozen=True)
class StoredArtifact:
    """A file that came out of an analysis, and whose bytes are in the store."""

    name: str
    media_type: str
    sha256: str
    size_bytes: int


def store_artifacts(
    store: BlobStore, sections: Mapping[str, bytes], report: Report
) -> tuple[StoredArtifact, ...]:
    """Check what files the child left, and store them and the table of the report's spectrum.

    Raises:
        ResultError: No honest child leaves such files.
    """
    if set(sections) != _LEFT_BY_CHILD:
        raise ResultError(f"its artifacts are {sorted(sections)}")
    for name, data in sections.items():
        _check_tensors(name, data)
    return (
        *(_keep(store, name, _SAFETENSORS, data) for name, data in sections.items()),
        _keep(store, "spectrum.csv", "text/csv; charset=utf-8", _spectrum_csv(report)),
    )


def _keep(store: BlobStore, name: str, media_type: str, data: bytes) -> StoredArtifact:
    sha256 = hashlib.sha256(data).hexdigest()
    store.put(sha256, io.BytesIO(data))
    return StoredArtifact(name, media_type, sha256, len(data))


def _check_tensors(name: str, data: bytes) -> None:
    """Refuse an artifact that is no safetensors file, or holds what is no number."""
    try:
        arrays = safetensors.numpy.load(data)
    except SafetensorError as error:
        raise ResultError(f"{name} is no safetensors file: {error}") from error
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ResultError(f"{name} holds NaN or infinity")


def _spectrum_csv(report: Report) -> bytes:
    """Write the per-eigenfunction figures as a table that spreadsheets read."""
    columns: dict[str, list[float] | None] = {
        "eigenvalue": report.spectrum.eigenvalues,
        "relative": report.spectrum.relative,
        "quality": report.projections.quality,
        "utilization": report.projections.utilization,
        "cumulative_quality": report.projections.cumulative_quality,
        "cumulative_utilization": report.projections.cumulative_utilization,
    }
    present = {name: values for name, values in columns.items() if values is not None}
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["k", *present])
    for k, row in enumerate(zip(*present.values(), strict=True), start=1):
        writer.writerow([k, *row])
    return text.getvalue().encode()

"""Loading a model on its device, fitting the probe to it, and finding its features."""

import json
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO

from torch import nn

from service.contract.failures import FailureCode
from service.contract.options import Options
from workers.analysis.evaluation import USUAL_BATCH, choose_batch_size
from workers.analysis.inputs import Fitted, fit
from workers.analysis.timing import timed
from workers.extraction import Extractor, discover, open_model
from workers.extraction.refusals import gist, printable
from workers.extraction.trace.execution import Batch
from workers.probes.probe import ProbeData
from workers.protocol.errors import JobError
from workers.protocol.progress import ProgressWriter, Stage
from workers.protocol.requests import Device

_LISTED = 16


@dataclass(frozen=True)
class PreparedModel:
    """A loaded model that is ready to be evaluated.

    Attributes:
        saved: The model as it was loaded.
        fitted: The model as it is called, and the probe as the model gets it.
        extractor: Extractor of features and outputs.
        first: A first batch, on the model's device.
        device: The model's device.
        warnings: What a reader of the figures must know, each as `code: sentence`.
    """

    saved: nn.Module
    fitted: Fitted
    extractor: Extractor
    first: Batch
    device: Device
    warnings: tuple[str, ...] = ()


def prepare_model(
    file: BinaryIO,
    probe: ProbeData,
    options: Options,
    device: Device,
    *,
    progress: ProgressWriter,
    timings: MutableMapping[str, float],
) -> PreparedModel:
    """Load a model and locate its head, falling back to the CPU if it does not run on the GPU.

    Args:
        file: The model's archive.
        probe: The samples; how they are given to the model is settled here.
        options: What the model's owner says about its head, and the batch size.
        device: Device on which to run the model.
        progress: Receives both stages.
        timings: Receives the seconds of both stages.

    Raises:
        JobError: The model cannot be used; the message says why.
    """
    choice = None if options.feature_map == "auto" else options.feature_map

    def open_on(device: Device) -> PreparedModel:
        progress.report(Stage.LOADING_MODEL)
        with timed(timings, "loading"):
            loaded = open_model(file, device)
        progress.report(Stage.LOCATING_HEAD)
        with timed(timings, "head"):
            with _naming_columns(probe):
                fitted = fit(loaded.model, probe, device)
            size = batch_size(fitted.probe, options)
            first = tuple(t.to(device) for t in next(fitted.probe.batches(size))[0])
            extractor = discover(fitted.model, first, choice)
            # A batch size that the owner chose is never reduced.
            extractor.fallback = USUAL_BATCH if options.batch_size == "auto" else None
            warnings = (*loaded.warnings, *_beside(extractor, fitted))
            return PreparedModel(loaded.model, fitted, extractor, first, device, warnings)

    if device == "cpu":
        return open_on("cpu")
    try:
        return open_on(device)
    except Exception as error:  # noqa: BLE001 - whatever it is: if the model is at fault, the CPU shows it
        warning = (
            "ran_on_cpu: the model does not run on a GPU as it was saved, so it ran on the CPU, "
            f"which takes longer: {_reason(error)}"
        )
    file.seek(0)
    prepared = open_on("cpu")
    return replace(prepared, warnings=(warning, *prepared.warnings))


def _beside(extractor: Extractor, fitted: Fitted) -> Iterator[str]:
    """Return the warnings about the probe's fit whose codes the extractor has not given already."""
    codes = {warning.partition(":")[0] for warning in extractor.feature_map.warnings}
    return (each for each in fitted.warnings if each.partition(":")[0] not in codes)


@contextmanager
def _naming_columns(probe: ProbeData) -> Iterator[None]:
    """Add to an input mismatch which columns of a table make up the input, and how to omit one."""
    try:
        yield
    except JobError as error:
        failure = error.failure
        if failure.code is not FailureCode.INPUT_MISMATCH or not probe.columns:
            raise
        listed = ", ".join(map(repr, probe.columns[:_LISTED]))
        more = f" and {len(probe.columns) - _LISTED:,} more" * (len(probe.columns) > _LISTED)
        excluded = json.dumps([*(probe.spec.exclude or ()), "its name"], ensure_ascii=False)
        how = f'name it in the spec, as "exclude": {excluded}'
        if probe.spec.columns is not None:
            how = 'leave it out of "columns" in the spec'
        raise JobError(
            failure.code,
            failure.message,
            hint=f"The probe's input is {len(probe.columns):,} columns side by side: {listed}{more}"
            f". Should one of them be no input of the model, {how}. {failure.hint or ''}".rstrip(),
            detail=failure.detail,
        ) from error


def batch_size(probe: ProbeData, options: Options, extractor: Extractor | None = None) -> int:
    """Return the number of samples that the model sees at once.

    Args:
        probe: The samples.
        options: What the model's owner says.
        extractor: What was found in the model; None: nothing yet.
    """
    if options.batch_size != "auto":
        return options.batch_size
    return choose_batch_size(probe, None if extractor is None else extractor.sample_bytes)


def _reason(error: Exception) -> str:
    return printable(error.failure.message) if isinstance(error, JobError) else gist(error)

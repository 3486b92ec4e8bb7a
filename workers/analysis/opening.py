"""Loading a model where it is to run, and finding its features there."""

from collections.abc import MutableMapping
from dataclasses import dataclass, replace
from typing import BinaryIO

from torch import nn

from service.analyses.options import Options
from workers.analysis.timing import timed
from workers.errors import JobError
from workers.extraction import Extractor, discover, open_model, suggesting_after
from workers.extraction.execution import Batch
from workers.extraction.refusals import gist, printable
from workers.probes.probe import ProbeData
from workers.runner.progress import ProgressWriter, Stage
from workers.runner.protocol import Device


@dataclass(frozen=True)
class Subject:
    """A model, ready to be evaluated.

    Attributes:
        model: The model.
        extractor: Gives its features and outputs.
        first: A first batch, where the model is.
        device: Where that is.
        warnings: What a reader of the figures must know, each as `code: sentence`.
    """

    model: nn.Module
    extractor: Extractor
    first: Batch
    device: Device
    warnings: tuple[str, ...] = ()


def open_subject(
    file: BinaryIO,
    probe: ProbeData,
    batch_size: int,
    options: Options,
    device: Device,
    *,
    progress: ProgressWriter,
    timings: MutableMapping[str, float],
) -> Subject:
    """Load a model and locate its head; on the CPU where a GPU does not run it as it was saved.

    Args:
        file: The model's archive.
        probe: Gives the first batch.
        batch_size: How many samples that has.
        options: What the model's owner says about its head.
        device: Where the model is to run.
        progress: Told of both stages.
        timings: Told of their seconds.

    Raises:
        JobError: The model cannot be used; the message says why.
    """
    first = next(probe.batches(batch_size))[0]
    choice = None if options.feature_map == "auto" else options.feature_map

    def open_on(device: Device) -> Subject:
        progress.report(Stage.LOADING_MODEL)
        with timed(timings, "loading"):
            loaded = open_model(file, device)
            placed = tuple(tensor.to(device) for tensor in first)
        progress.report(Stage.LOCATING_HEAD)
        with timed(timings, "head"), suggesting_after(probe.spec.transform):
            extractor = discover(loaded.model, placed, choice)
            return Subject(loaded.model, extractor, placed, device, loaded.warnings)

    if device == "cpu":
        return open_on("cpu")
    try:
        return open_on(device)
    except Exception as error:  # noqa: BLE001 -- whatever it is: if the model is at fault, the CPU shows it
        warning = (
            "ran_on_cpu: the model does not run on a GPU as it was saved, so it ran on the CPU, "
            f"which takes longer: {_reason(error)}"
        )
    file.seek(0)
    subject = open_on("cpu")
    return replace(subject, warnings=(warning, *subject.warnings))


def _reason(error: Exception) -> str:
    return printable(error.failure.message) if isinstance(error, JobError) else gist(error)

"""Testing that a model is a function of each sample: not of the run, the batch or its size."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from service.failures import FailureCode
from workers.errors import JobError
from workers.extraction.choosing import DeclaredFeatures
from workers.extraction.consistency import same, tolerance
from workers.extraction.execution import Batch, Output, resized
from workers.extraction.observation import Observation, observe
from workers.extraction.recording import batch_limits
from workers.extraction.refusals import Refusal, refuse
from workers.extraction.structure import Structure

_ROW_TOLERANCE = 1e-3
"""A sample's Φ may change so much with its batch, relative: kernels differ by batch size."""

_SAME_SAMPLES = 0.3
"""What changes more than this when the samples are reordered has not been reordered with them."""


def check_repeatable(outputs: Sequence[Output], label: str, first: Observation) -> None:
    """Compares the recorded run with the tapped one.

    Raises:
        JobError: `unsupported_model` (`stochastic`) if they differ.
    """
    recorded = next(output.tensor for output in outputs if output.label == label)
    if not same(first.answer, recorded, tolerance(first.precision)):
        raise refuse(
            Refusal.STOCHASTIC,
            "Two runs on the same batch gave different answers. Expected a model that is a "
            "function of its input. (An archive that was traced with another batch size can also "
            "read memory that is not its own.)",
        )


def check_samples(
    model: nn.Module,
    found: Structure | DeclaredFeatures,
    sample: Batch,
    first: Observation,
    baked_rows: int | None,
) -> tuple[int | None, tuple[str, ...]]:
    """Tests whether a sample's Φ depends on how many and which others are in its batch.

    Returns:
        The batch size that is baked into the archive, if one is, and warnings.

    Raises:
        JobError: `unsupported_model` (`bad_output`) if rows of Φ do not belong to samples.
    """
    rows = len(sample[0])
    half = rows // 2
    part: Observation | None = None
    if half and baked_rows is None:
        try:
            part = observe(model, found, resized(sample, half))
        except JobError as error:
            if error.failure.code is not FailureCode.INPUT_MISMATCH and not _ignores_size(error):
                raise
            baked_rows = rows
    warnings: list[str] = []
    if baked_rows is not None:
        warnings.append(
            f"fixed_batch: the archive takes {_batch_sizes(model, baked_rows)} samples at a time, "
            f"so every batch is cut into pieces of {baked_rows} and the last one filled up; trace "
            "or export the model with a dynamic batch size to make this faster."
        )
    reordered = _observe_reordered(model, found, sample, first)
    if not _agree(reordered, first, rows) or not (part is None or _agree(part, first, half)):
        warnings.append(
            "batch_dependent: a sample's features change with the other samples of its batch, so "
            "the figures depend on the batch size and the order of the samples."
        )
    return baked_rows, tuple(warnings)


def _batch_sizes(model: nn.Module, baked_rows: int) -> str:
    """How many samples an archive takes, in words: as its own limits say, or as was found."""
    fewest, most = batch_limits(model) or (baked_rows, baked_rows)
    if fewest == most or not fewest <= baked_rows:
        return f"exactly {baked_rows}"
    return f"at least {fewest}" if most is None else f"{fewest} to {most}"


def _ignores_size(error: JobError) -> bool:
    """Whether a half batch was answered with another number of rows than it has."""
    return error.failure.detail.get("code") == Refusal.BAD_OUTPUT


def _observe_reordered(
    model: nn.Module, found: Structure | DeclaredFeatures, sample: Batch, first: Observation
) -> Observation:
    """Runs the samples in another order, all of them at once, and puts the rows back in place.

    Raises:
        JobError: `unsupported_model` (`bad_output`) if they do not come out in that order.
    """
    rows = len(sample[0])
    # On the CPU in any case: the order is to be the same one everywhere.
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(0), device="cpu")
    seen = observe(model, found, tuple(tensor[order] for tensor in sample))
    places = torch.arange(first.positions, device="cpu")
    back = (order.argsort()[:, None] * first.positions + places).flatten()
    restored = replace(seen, features=seen.features[back], logits=seen.logits[back])
    if rows > 1 and not same(restored.features, first.features, _SAME_SAMPLES):
        raise refuse(
            Refusal.BAD_OUTPUT,
            "The model's rows of outputs do not follow the samples when those are reordered; "
            "expected one row per sample, or one per position of it, in the samples' order.",
        )
    return restored


def _agree(part: Observation, whole: Observation, samples: int) -> bool:
    rows = samples * whole.positions
    limit = max(tolerance(whole.features.dtype), _ROW_TOLERANCE)
    return same(part.features[:rows], whole.features[:rows], limit) and same(
        part.logits[:rows], whole.logits[:rows], limit
    )

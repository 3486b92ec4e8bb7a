"""Testing that a model is a function of each sample, independent of the run and of the batch."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from service.contract.failures import FailureCode
from workers.extraction.fit.recording import batch_limits
from workers.extraction.head.choosing import DeclaredFeatures
from workers.extraction.head.structure import Structure
from workers.extraction.observation import Observation, observe
from workers.extraction.refusals import Refusal, refuse
from workers.extraction.trace.consistency import same, tolerance
from workers.extraction.trace.execution import Batch, Output, beside, resized
from workers.protocol.errors import JobError

_ROW_TOLERANCE = 1e-3
"""Largest relative change of a sample's Φ with its batch: kernels differ by batch size."""

_SHARE_TESTED = 16
_ENOUGH_TESTED = 8
_SHARE_OF_MANY = 32
"""One sample in 16 of a later batch is run again without the others. An extreme sample that changes
the others is then unlikely to be among them. At most 8 samples are run again, or one in 32 if that
is more."""

_LARGE = 64
_SMALL = 4
"""Batches of 4 to 63 samples are tested only now and then, and smaller ones never: running a few
samples takes about as long as running all of them."""

_BATCH_DEPENDENT = (
    "batch_dependent: a sample's features change with the other samples of its batch, so the "
    "figures depend on the batch size and the order of the samples."
)

_SAME_SAMPLES = 0.3
"""Features that change more than this when the samples are reordered did not follow their order."""


def check_repeatable(outputs: Sequence[Output], label: str, first: Observation) -> None:
    """Compare the answer of the recorded run with that of the first observed one.

    Args:
        outputs: The model's results in the recorded run.
        label: Which of them to compare.
        first: Observation of the same batch.

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
    """Test whether a sample's Φ depends on the other samples of its batch, or on their number.

    Args:
        model: The model.
        found: Where Φ and u are.
        sample: The recorded batch.
        first: Observation of that batch.
        baked_rows: Number of samples that every run must have, if the archive is already known not
            to take any number of them.

    Returns:
        The number of samples that every run must have, or `None` for any number; and warnings.

    Raises:
        JobError: `unsupported_model` (`bad_output`) if rows of Φ do not follow the samples.
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
            f"fixed_batch: the archive {_batch_sizes(model, found, sample, baked_rows)}, so every "
            f"batch is cut into pieces of {baked_rows} and the last one filled up; "
            "save the model so that it takes any samples, however many (with a dynamic batch "
            "size), to make this faster."
        )
    reordered = _observe_reordered(model, found, sample, first)
    if not _agree(reordered, first, rows) or not (part is None or _agree(part, first, half)):
        warnings.append(_BATCH_DEPENDENT)
    return baked_rows, tuple(warnings)


class LaterBatches:
    """Tests, on later batches, of what `check_samples` tested on the first one.

    A model may mix the samples of some batches only, such as those that hold an extreme value.

    Args:
        model: The model.
        found: Where Φ and u are.
        warnings: Warnings given so far. The answer of a model that keeps a state depends on how
            often it ran, so such a model is not run again.
    """

    def __init__(
        self, model: nn.Module, found: Structure | DeclaredFeatures, warnings: Sequence[str]
    ) -> None:
        self._model = model
        self._found = found
        self._is_settled = any(w.startswith(("batch_dependent:", "stateful:")) for w in warnings)
        self._seen = 0

    def warn(self, batch: Batch, whole: Observation) -> tuple[str, ...]:
        """Run some samples of a batch without the others, if the batch is large enough for it.

        Args:
            batch: What the model was run on.
            whole: Observation of the whole batch.

        Returns:
            The warning, the first time that Φ or u of these samples differs.
        """
        self._seen += 1
        size = len(batch[0])
        is_picked = self._seen.bit_count() == 1  # the 1st, 2nd, 4th, 8th, …
        if self._is_settled or size < (_SMALL if is_picked else _LARGE):
            return ()
        enough = max(_ENOUGH_TESTED, size // _SHARE_OF_MANY)
        rows = min(enough, max(2, size // _SHARE_TESTED))
        evenly = torch.arange(rows, device=batch[0].device) * size
        # The two choices share no sample, so an extreme one is missing from at least one of them.
        choices = [evenly // rows, (evenly + size // 2) // rows][: 1 + is_picked]
        self._is_settled = any(self._differ(batch, whole, chosen) for chosen in choices)
        return (_BATCH_DEPENDENT,) if self._is_settled else ()

    def _differ(self, batch: Batch, whole: Observation, chosen: Tensor) -> bool:
        """Return whether the result for the chosen samples differs without the others."""
        try:
            with beside(batch):
                part = observe(self._model, self._found, tuple(tensor[chosen] for tensor in batch))
        except JobError as error:
            # These refusals did not occur on the whole batch. Any other error shows only that the
            # model could not run on these samples.
            return error.failure.detail.get("code") in (Refusal.RESIDUAL, Refusal.NON_FINITE)
        if part.positions != whole.positions:
            return False  # not comparable; the extractor itself refuses a change of positions
        places = torch.arange(whole.positions, device=chosen.device)
        taken = (chosen[:, None] * whole.positions + places).flatten()
        among = replace(whole, features=whole.features[taken], logits=whole.logits[taken])
        return not _agree(part, among, len(chosen))


def _batch_sizes(
    model: nn.Module, found: Structure | DeclaredFeatures, sample: Batch, rows: int
) -> str:
    """Say how many samples an archive takes, from its own limits or by trying other numbers."""
    limits = batch_limits(model)
    if limits is None:
        others = [size for size in (rows - 1, rows + 1) if _takes(model, found, sample, size)]
        if others:
            also = " and ".join(map(str, others))
            return (
                f"runs on {rows} samples at a time, and on {also}, but not on every number or "
                "choice of them"
            )
        limits = (rows, rows)
    fewest, most = limits
    if fewest == most or not fewest <= rows:
        return f"takes exactly {rows} samples at a time"
    few = f"at least {fewest}" if most is None else f"{fewest} to {most}"
    return f"takes {few} samples at a time"


def _takes(model: nn.Module, found: Structure | DeclaredFeatures, sample: Batch, rows: int) -> bool:
    """Return whether an archive also runs on this many samples, and answers for each of them."""
    if not rows:
        return False
    try:
        observe(model, found, resized(sample, rows))
    except JobError:
        return False
    return True


def _ignores_size(error: JobError) -> bool:
    """Return whether the answer to the half batch had the wrong number of rows."""
    return error.failure.detail.get("code") == Refusal.BAD_OUTPUT


def _observe_reordered(
    model: nn.Module, found: Structure | DeclaredFeatures, sample: Batch, first: Observation
) -> Observation:
    """Run the samples in another order, all of them at once, and put the rows back in place.

    Raises:
        JobError: `unsupported_model` (`bad_output`) if the rows do not follow that order.
    """
    rows = len(sample[0])
    # Always drawn on the CPU, so that the order is the same on every device.
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

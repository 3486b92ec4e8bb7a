"""A model and a probe that do not fit: what was expected, what was found, and what would fit."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pydantic import JsonValue
from torch import Tensor, nn

from service.contract.failures import FailureCode
from service.contract.transform import Transform
from workers.extraction.fit.corrections import corrections, written
from workers.extraction.fit.expectations import find_expectation
from workers.extraction.refusals import Refusal
from workers.extraction.trace.execution import Batch, copied, describe_batch, execute
from workers.extraction.trace.signature import Argument, Called, read_arguments
from workers.probes.combination import combine
from workers.protocol.errors import JobError

_ARGUMENTS_SHOWN = 8


class CorrectableError(JobError):
    """An `input_mismatch` with a conversion of the inputs that the model runs on.

    Args:
        message: What was wrong and what was expected.
        detail: Figures behind the message; `suggestion` is added where a transform is enough.
        transform: The conversion, as far as a transform expresses it.
        storing: The rest, in words; empty if there is none.
    """

    def __init__(
        self, message: str, detail: dict[str, JsonValue], transform: Transform, storing: str
    ) -> None:
        suggestion = {} if storing else {"suggestion": transform.model_dump(mode="json")}
        super().__init__(
            FailureCode.INPUT_MISMATCH,
            message,
            hint=_suggest(transform, storing),
            detail={**detail, **suggestion},
        )
        self._arguments = (message, detail, transform, storing)

    def after(self, earlier: Transform, *, keeps_dtype: bool = True) -> JobError:
        """Return the same error for inputs that a transform made: both transforms as one.

        Args:
            earlier: What was done to the stored inputs.
            keeps_dtype: Whether the dtype is part of it; else it follows the model anyway.
        """
        message, detail, transform, storing = self._arguments
        try:
            both = combine(earlier, transform)
        except ValueError:  # no transform does both; the one that was tried remains
            return self
        if not keeps_dtype:
            keys = both.model_dump(mode="json")
            keys.pop("dtype", None)
            both = Transform.model_validate(keys)
        return CorrectableError(message, detail, both, storing)


def explain(model: nn.Module, batch: Batch, error: JobError) -> JobError:
    """Say why a model does not run on a batch, and which conversion of the batch it does run on.

    The model runs once more, watched, and then on a few conversions of the batch. A conversion is
    only suggested if the model ran on it and gave one row per sample.

    Args:
        model: The model.
        batch: What it cannot take, after the probe's transform; a few samples.
        error: The `input_mismatch` of its run.

    Returns:
        `input_mismatch` with the detail of `error` and, where they are known, `expected` and
        `suggestion`, the transform to add.
    """
    detail = dict(error.failure.detail)
    arguments = read_arguments(model)
    if not (isinstance(model, Called) or _fit(arguments, batch)):
        return _wrong_arguments(arguments, batch, detail)
    expected = find_expectation(model, batch)
    message = (
        "The model could not run on what the probe's transform gives, a batch of "
        f"{describe_batch(batch)}."
    )
    advice = "Compare shape and dtype with what the model was trained on."
    dtype = channels = None
    if expected is not None:
        message += f" {expected.sentence}"
        detail["expected"] = expected.figures
        advice = expected.advice or advice
        dtype, channels = expected.dtype, expected.channels
    message += f" Its error: {detail['model_error']}"
    candidates = corrections(batch[0], dtype, channels) if len(batch) == 1 else iter(())
    found = next((c for c in candidates if _runs(model, c.inputs)), None)
    if found is not None:
        return CorrectableError(message, detail, found.transform, found.storing)
    hint = (
        "None of the usual conversions makes it run (another layout or dtype, flattening, a "
        f"channel axis). {advice}"
    )
    return JobError(FailureCode.INPUT_MISMATCH, message, hint=hint, detail=detail)


@contextmanager
def explaining(model: nn.Module, batch: Batch, rows: int) -> Iterator[None]:
    """Explain that a model which took others refuses this batch, for its size or a value in it.

    Args:
        model: The model.
        batch: What it is run on within.
        rows: How many samples of it to look at in one go.
    """
    try:
        yield
    except JobError as error:
        if error.failure.code is not FailureCode.INPUT_MISMATCH:
            raise
        for part in _parts(batch, rows):
            try:
                execute(model, copied(part))  # unwatched, since a watched error loses its text
            except JobError as refusal:
                if refusal.failure.code is FailureCode.INPUT_MISMATCH:
                    raise explain(model, part, refusal) from error
        fewer = _fewer(model, batch)
        if fewer is None:
            raise
        raise _too_many(error, fewer) from error


def could_not_run(error: JobError) -> bool:
    """Return whether fewer samples at a time may help: the model gave no answer to a batch.

    It raised an error, ran out of memory, or gave no row for each sample. An answer that was given
    and found wrong (Φ Wᵀ + b misses it, NaN, other operations than before) is refused whatever the
    batch size: it says something of the model, and a proof that is repeated with other batches
    until it succeeds proves nothing. Dependence on other samples is a warning in any case.

    Whether memory runs out depends on what a worker may take, besides the request: with more of it
    the larger batch may run, and float32 figures differ in the last digits.
    """
    failure = error.failure
    return (
        failure.code in (FailureCode.INPUT_MISMATCH, FailureCode.OUT_OF_MEMORY)
        or failure.detail.get("code") == Refusal.BAD_OUTPUT
    )


def _parts(batch: Batch, rows: int) -> Iterator[Batch]:
    for start in range(0, len(batch[0]), rows):
        yield tuple(tensor[start : start + rows] for tensor in batch)


def _fewer(model: nn.Module, batch: Batch) -> int | None:
    """Return how many samples a model runs on at once, a power of two; None if not even one."""
    rows = 1 << (len(batch[0]) - 1).bit_length() >> 1  # the largest one that is less than all
    while rows:
        try:
            for part in _parts(batch, rows):
                execute(model, copied(part))
        except JobError:
            rows //= 2
        else:
            return rows
    return None


def _too_many(error: JobError, rows: int) -> JobError:
    """Return the same refusal, with the batch size that the model takes."""
    failure = error.failure
    return JobError(
        failure.code,
        f"{failure.message.rstrip('.')}. It runs on the same samples if it is given {rows} at a "
        "time.",
        hint=f'Set "options": {{"batch_size": {rows}}} for the analysis (tried: it runs).',
        detail={**failure.detail, "batch_size": rows},
    )


def _fit(arguments: Sequence[Argument], batch: Batch) -> bool:
    needed = sum(argument.default is None for argument in arguments)
    given = arguments[: len(batch)]
    return needed <= len(batch) <= len(arguments) and all(a.is_tensor for a in given)


def _wrong_arguments(
    arguments: Sequence[Argument], batch: Batch, detail: dict[str, JsonValue]
) -> JobError:
    shown = [f"{argument.name}: {argument.type}" for argument in arguments[:_ARGUMENTS_SHOWN]]
    more = "" if len(shown) == len(arguments) else ", …"
    return JobError(
        FailureCode.INPUT_MISMATCH,
        f"The model takes {_count(len(arguments), 'input')} ({', '.join(shown)}{more}); the probe "
        f"gives {_count(len(batch), 'tensor')} of {describe_batch(batch)}.",
        hint='Name one array of the probe for each, in this order, in its spec: "input": '
        f"{json.dumps([argument.name for argument in arguments if argument.default is None])}; or "
        "save the model inside a module that takes what the probe has.",
        detail={**detail, "expected": {"inputs": list(shown)}},
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _runs(model: nn.Module, inputs: Tensor) -> bool:
    """Return whether the model takes the inputs and gives one row per sample."""
    try:
        outputs = execute(model, (inputs.clone(),))
    except JobError:
        return False
    return any(_is_rows(output.tensor, len(inputs)) for output in outputs)


def _is_rows(output: Tensor, rows: int) -> bool:
    return (
        output.dim() > 0
        and len(output) == rows
        and sum(size != 1 for size in output.shape[1:]) <= 1
    )


def _suggest(transform: Transform, storing: str) -> str:
    keys = transform.model_fields_set
    setting = f"set {written(transform)} in the probe's spec" if keys else ""
    giving = f"give the model inputs of shape {storing}" if storing else ""
    said = ", and ".join(filter(None, (giving, setting)))
    hint = f"{said[0].upper()}{said[1:]} (tried: it runs)."
    if "scale" in keys:
        hint += (
            ' The scale brings bytes into [0, 1], as is usual; set "scale": 1 instead if the '
            "model was trained on values up to 255."
        )
    return hint

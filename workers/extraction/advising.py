"""Hints that name what a model has: the layer or the result that its owner may choose."""

import json
import math
from collections.abc import Mapping, Sequence

from pydantic import JsonValue
from torch import Tensor

from workers.errors import JobError
from workers.extraction.execution import Output
from workers.extraction.heads import HEADS, parse_head
from workers.extraction.operations import Step
from workers.extraction.refusals import Refusal, printable
from workers.extraction.structure import Names, carrying_factor, weight_names
from workers.extraction.tape import Tape, storage_key

_SAVING = {
    Refusal.NO_LINEAR_HEAD: (
        "Save the model so that it returns the outputs of its last linear layer (the logits), with "
        "at most a softmax, log_softmax or elementwise function after it"
    ),
    Refusal.MULTIPLE_HEADS: (
        "Save the model so that it returns the outputs of one linear layer, and analyse members of "
        "an ensemble one by one"
    ),
    Refusal.NONLINEAR_POOL: (
        "Pool before the last linear layer, or leave out the nonlinearity between that layer and "
        "the pooling"
    ),
}
_LISTS = "GET /v1/models/{id}/inspection lists the layers."


def chosen(choice: dict[str, JsonValue]) -> str:
    """A choice as it is written in a request."""
    return f"options.feature_map = {json.dumps(choice, ensure_ascii=False)}"


def listed(choices: Sequence[Mapping[str, JsonValue]]) -> str:
    """Choices of which one is to be made, each as it is written in a request."""
    written = [json.dumps(choice, ensure_ascii=False) for choice in choices]
    return f"options.feature_map = {' or '.join(written)}"


def advised(
    error: JobError, tape: Tape, outputs: Sequence[Output], names: Names, samples: int
) -> JobError:
    """A refusal whose hint names the choices that the model leaves to its owner.

    Args:
        error: Why no head was found.
        tape: The recorded run.
        outputs: Its results.
        names: The model's names.
        samples: How many samples it was given.
    """
    failure = error.failure
    saving = next((_SAVING[code] for code in _SAVING if code == failure.detail.get("code")), None)
    if saving is None:
        return error
    layer = last_layer(tape, outputs, names, samples)
    naming = ""
    if layer is not None:
        naming = f"; or name the layer that is meant, as {chosen(layer)}. {_LISTS}"
    alone = ""
    if len(outputs) == 1 and _are_rows(outputs[0].tensor, samples):
        alone = (
            " If the result is the features themselves, with no outputs, say "
            f"{chosen({'features_output': 0})}."
        )
    hint = f"{saving}{naming or '.'}{alone}"
    return JobError(failure.code, failure.message, hint=hint, detail=failure.detail)


def last_layer(
    tape: Tape,
    outputs: Sequence[Output],
    names: Names,
    samples: int,
    width: int | None = None,
) -> dict[str, JsonValue] | None:
    """The choice of the last linear layer that ran once on the way to a result, with its rows.

    Args:
        tape: The recorded run.
        outputs: The results.
        names: Of the model's parameters.
        samples: How many rows the layer has to give.
        width: How many outputs it has to have; None for any number.
    """
    before = {
        key for output in outputs for key in tape.ancestors([(output.tensor, len(tape.steps))])
    }
    layers = {
        step.index: _parameters(tape, step, operand, names)
        for step in tape.steps
        if (operand := carrying_factor(tape, step)) is not None
    }
    for index in reversed(layers):
        step, operand = tape.steps[index], carrying_factor(tape, tape.steps[index]) or 0
        product = step.outputs[0]
        used = id(product) in before and product.shape[:1] == (samples,)
        fits = width is None or product.shape[-1] == width
        again = sum(bool(layers[index] & others) for others in layers.values()) > 1
        if used and fits and not again and _is_plain(step, operand):
            return _naming(step, layers)
    return None


def _naming(layer: Step, layers: Mapping[int, frozenset[str]]) -> dict[str, JsonValue]:
    """How a layer is chosen: by its module where that has no other, or by its operation."""
    for name in sorted(layers[layer.index]):
        module = name.rpartition(".")[0]
        inside = [
            index
            for index, parameters in layers.items()
            if any(one.startswith(f"{module}.") for one in parameters)
        ]
        if module and inside == [layer.index]:
            return {"module": printable(module, 200)}
    return {"operation": layer.index + 1}


def _parameters(tape: Tape, step: Step, operand: int, names: Names) -> frozenset[str]:
    """Names of what a linear operation multiplies by; where it has none, its memory's."""
    found = weight_names(tape, step, operand, names)
    if found:
        return frozenset(found)
    factors = HEADS[step.name].factors(step)
    others = [factor for k, factor in enumerate(factors) if k != operand]
    return frozenset(f"{storage_key(r)}" for factor in others for r in tape.roots(factor))


def _is_plain(step: Step, operand: int) -> bool:
    try:
        return bool(parse_head(step, operand, HEADS[step.name].factors(step)[operand][:1]))
    except JobError:
        return False


def _are_rows(tensor: Tensor, samples: int) -> bool:
    return tensor.shape[:1] == (samples,) and math.prod(tensor.shape[2:]) == 1

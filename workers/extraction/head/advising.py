"""Hints that name what a model has: the layer or the result that its owner may choose."""

import json
import math
from collections.abc import Collection, Mapping, Sequence

from pydantic import JsonValue
from torch import Tensor

from workers.extraction.head.kinds import HEADS, parse_head
from workers.extraction.head.structure import Names, Structure, carrying_factor, weight_names
from workers.extraction.refusals import Refusal, printable
from workers.extraction.trace.execution import Output
from workers.extraction.trace.operations import Step
from workers.extraction.trace.tape import Tape, storage_key
from workers.protocol.errors import JobError

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
_LISTED = 8
_LISTS = "GET /v1/models/{id}/inspection lists the layers."


def chosen(choice: dict[str, JsonValue]) -> str:
    """Return a choice as it is written in a request."""
    return f"options.feature_map = {json.dumps(choice, ensure_ascii=False)}"


def listed(choices: Sequence[Mapping[str, JsonValue]]) -> str:
    """Return choices of which one is to be made, each as it is written in a request."""
    written = [json.dumps(choice, ensure_ascii=False) for choice in choices]
    return f"options.feature_map = {' or '.join(written)}"


def advised(
    error: JobError,
    tape: Tape,
    outputs: Sequence[Output],
    names: Names,
    samples: int,
    *,
    wanted: str | int | None = None,
) -> JobError:
    """Return a refusal whose hint names the choices that the model leaves to its owner.

    Args:
        error: Why no head was found.
        tape: The recorded run.
        outputs: Its results.
        names: The model's names.
        samples: How many samples it was given.
        wanted: The result that its owner chose, by name or place; `None` for none.
    """
    failure = error.failure
    saving = next((_SAVING[code] for code in _SAVING if code == failure.detail.get("code")), None)
    if saving is None:
        return error
    labels = failure.detail.get("outputs")
    meant = [
        one
        for one in outputs
        if wanted in {None, one.label, one.position}
        and (not isinstance(labels, list) or one.label in labels)
    ]
    choices = layers_by_result(tape, meant, names, samples, alone=len(outputs) == 1)
    naming = ""
    if choices:
        naming = f"; or name the layer that is meant, as {listed(choices)}. {_LISTS}"
    alone = ""
    if len(outputs) == 1 and _are_rows(outputs[0].tensor, samples):
        alone = (
            " If the result is the features themselves, with no outputs, say "
            f"{chosen({'features_output': 0})}."
        )
    hint = f"{saving}{naming or '.'}{alone}"
    return JobError(failure.code, failure.message, hint=hint, detail=failure.detail)


def layers_by_result(
    tape: Tape, outputs: Sequence[Output], names: Names, samples: int, *, alone: bool
) -> list[dict[str, JsonValue]]:
    """Return the choice of a layer for each result with rows; of any layer where none has rows.

    Args:
        tape: The recorded run.
        outputs: The results that may be meant.
        names: The model's names.
        samples: How many samples it was given.
        alone: The model has a single result, which need not be named.
    """
    with_rows = [one for one in outputs if one.tensor.shape[:1] == (samples,)]
    if not with_rows:
        layer = last_layer(tape, outputs, names, samples)
        is_named = len(outputs) == 1 and not alone
        result: dict[str, JsonValue] = {"output": name_of(outputs[0])} if is_named else {}
        return [] if layer is None else [{**result, **layer}]
    choices: list[dict[str, JsonValue]] = []
    for one in with_rows[:_LISTED]:
        layer = last_layer(tape, [one], names, samples, widths(one.tensor))
        if layer is not None:
            choices.append(layer if alone else {"output": name_of(one), **layer})
    return choices


def name_of(output: Output) -> str | int:
    """Return a result as its owner names it: by its place where it has no other name."""
    return output.position if output.label in {"", str(output.position)} else output.label


def widths(answer: Tensor) -> set[int]:
    """Return how many outputs the layer behind an answer with a row for each sample may have."""
    if math.prod(answer.shape[2:]) != 1:
        return set(answer.shape[1:])  # one of these axes is that of the outputs
    columns = answer.shape[1] if answer.dim() > 1 else 1
    # The probabilities of two classes may be made of one output.
    return {columns, 1} if columns == 2 else {columns}  # noqa: PLR2004 - two classes


def last_layer(
    tape: Tape,
    outputs: Sequence[Output],
    names: Names,
    samples: int,
    widths: Collection[int] | None = None,
) -> dict[str, JsonValue] | None:
    """Return the choice of the last linear layer that ran once before a result, with its rows.

    Args:
        tape: The recorded run.
        outputs: The results.
        names: Of the model's parameters.
        samples: How many rows the layer has to give.
        widths: How many outputs it may have; None for any number.
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
        again = sum(bool(layers[index] & others) for others in layers.values()) > 1
        if used and not again:
            width = _width(step, operand)
            if width is not None and (widths is None or width in widths):
                return _naming(step, layers)
    return None


def _naming(layer: Step, layers: Mapping[int, frozenset[str]]) -> dict[str, JsonValue]:
    """Return how a layer is chosen: by its module where that has no other, or by its operation."""
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
    """Return names of what a linear operation multiplies by; where it has none, its memory's."""
    found = weight_names(tape, step, operand, names)
    if found:
        return frozenset(found)
    factors = HEADS[step.name].factors(step)
    others = [factor for k, factor in enumerate(factors) if k != operand]
    return frozenset(f"{storage_key(r)}" for factor in others for r in tape.roots(factor))


def _width(step: Step, operand: int) -> int | None:
    """Return how many outputs a linear operation has; `None` if it is no plain linear layer."""
    try:
        head = parse_head(step, operand, HEADS[step.name].factors(step)[operand][:1])
    except JobError:
        return None
    return 1 if head.class_axis is None else head.shape[head.class_axis]


def _are_rows(tensor: Tensor, samples: int) -> bool:
    return tensor.shape[:1] == (samples,) and math.prod(tensor.shape[2:]) == 1


def earlier_outputs(structure: Structure) -> str:
    """Return the warning of results that lie on the way to the one that was taken."""
    labels = " and ".join(f"`{label}`" for label in structure.passed_over)
    lies, them = ("lies", "it") if len(structure.passed_over) == 1 else ("lie", "one of them")
    return (
        f"earlier_outputs: `{structure.output}` was taken; {labels} {lies} on the way to it. To "
        f"judge {them} instead, name it, as {chosen({'output': structure.passed_over[0]})}."
    )

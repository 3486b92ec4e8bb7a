"""Looking into a model without data, inside the confined child."""

from collections.abc import Mapping, Sequence
from typing import BinaryIO

import torch
from pydantic import JsonValue
from torch import nn

from service.contract import inspection as contract
from service.contract.failures import FailureCode
from service.contract.inspection import MAX_CANDIDATES, MAX_OUTPUTS, Findings, InspectionRequest
from workers.extraction import discover, open_model
from workers.extraction.head.structure import count_parameters
from workers.extraction.refusals import printable
from workers.extraction.trace.execution import Output, copied, dtype_name, execute
from workers.extraction.trace.signature import Argument, Called, read_arguments, tensor_positions
from workers.extraction.trace.tape import Tape
from workers.inspection.candidates import (
    Candidate,
    Ending,
    candidate_steps,
    describe_candidates,
    find_endings,
)
from workers.inspection.example_inputs import Example, find_example
from workers.inspection.forms import Form
from workers.inspection.recorded import Recorded, read_recorded
from workers.protocol.errors import JobError
from workers.protocol.progress import ProgressWriter, Stage
from workers.protocol.result import JobResult

_REASON_CHARACTERS = 1500


def inspect_model(
    arguments: Mapping[str, JsonValue], files: Sequence[BinaryIO], progress: ProgressWriter
) -> JobResult:
    """Show what a model takes and returns, and which of its linear layers is the head.

    Args:
        arguments: An `InspectionRequest`.
        files: The model.
        progress: Told of each stage.

    Returns:
        A header that is `Findings`, and no sections.

    Raises:
        JobError: The model cannot be loaded, or no input was found that it takes.
    """
    request = InspectionRequest.model_validate(arguments)
    (file,) = files
    progress.report(Stage.LOADING_MODEL)
    loaded = open_model(file)
    model = loaded.model
    taken = read_arguments(model)
    progress.report(Stage.LOCATING_HEAD)
    given = _given(taken, request)
    called = Called(model, given)
    example = _find_example(called, file, len(given), request)
    findings = _inspect(called, taken, given, example)
    findings = findings.model_copy(update={"warnings": [*loaded.warnings, *findings.warnings]})
    return JobResult(findings.model_dump(mode="json"))


def _given(arguments: Sequence[Argument], request: InspectionRequest) -> list[int]:
    """Return positions of the example's arguments: those needed, or as many as declared."""
    tensors = tensor_positions(arguments)
    needed = [p for p in tensors if arguments[p].default is None] or tensors[:1]
    if request.inputs is None:
        return needed
    if not len(needed) <= len(request.inputs) <= len(tensors):
        names = [arguments[position] for position in tensors]
        raise _miscounted(names, len(needed), len(request.inputs))
    return needed if len(request.inputs) == len(needed) else tensors[: len(request.inputs)]


def _find_example(
    model: nn.Module, file: BinaryIO, inputs: int, request: InspectionRequest
) -> Example:
    if request.inputs is not None:
        forms = tuple(Form(tuple(i.shape), getattr(torch, i.dtype)) for i in request.inputs)
        return find_example(model, len(forms), Recorded("declared", forms))
    known = read_recorded(model, file)
    if known is not None and len(known.forms) != inputs:
        known = None
    return find_example(model, inputs, known)


def _miscounted(tensors: Sequence[Argument], needed: int, declared: int) -> JobError:
    names = ", ".join(argument.name for argument in tensors)
    expected = f"{needed}" if needed == len(tensors) else f"{needed} to {len(tensors)}"
    return JobError(
        FailureCode.INPUT_MISMATCH,
        f"{declared} inputs were declared; `forward` takes {expected} tensors: {names}.",
        hint="Give `input` once for each tensor that forward takes, in this order.",
    )


@torch.inference_mode()
def _inspect(
    model: nn.Module, arguments: Sequence[Argument], given: Sequence[int], example: Example
) -> Findings:
    refusal: JobError | None = None
    warnings: tuple[str, ...] = ()
    taken: str | JobError
    try:
        found = discover(model, example.batch).feature_map
        taken = found.output
        # An example's values are made up, so how they are scaled says nothing.
        warnings = tuple(w for w in found.warnings if not w.startswith("value_range:"))
    except JobError as error:
        taken = refusal = error
    inputs = copied(example.batch)
    tape = Tape(inputs)
    endings = find_endings(tape, _outputs(model, inputs, tape)[:MAX_OUTPUTS], model)
    steps = candidate_steps(tape)
    candidates = describe_candidates(steps[-MAX_CANDIDATES:], tape, model, endings, taken)
    return Findings(
        parameters=count_parameters(model, tape),
        operations=len(tape.steps),
        inputs=_describe_inputs(arguments, given, example),
        outputs=[_describe_output(ending, len(inputs[0])) for ending in endings],
        head=next((c.location for c in candidates if c.is_taken), None),
        candidates=[_describe_candidate(candidate) for candidate in candidates],
        candidates_total=len(steps),
        refusal=None if refusal is None else refusal.failure,
        warnings=[*warnings, *_several(example)],
    )


def _outputs(model: nn.Module, inputs: tuple[torch.Tensor, ...], tape: Tape) -> list[Output]:
    try:
        return execute(model, inputs, tape)
    except JobError:
        return []  # why nothing of its results can be read is in the refusal


def _several(example: Example) -> list[str]:
    if len(example.batch) == 1:
        return []
    warning = (
        f"several_inputs: the model takes {len(example.batch)} inputs, so a probe for it holds as "
        "many arrays, named in this order by `input` in its spec."
    )
    return [warning]


def _describe_inputs(
    arguments: Sequence[Argument], given: Sequence[int], example: Example
) -> list[contract.Input]:
    tensors = dict(zip(given, example.batch, strict=True))
    return [
        contract.Input(
            name=argument.name,
            type=argument.type,
            default=argument.default,
            shape=list(tensors[position].shape[1:]) if position in tensors else None,
            dtype=dtype_name(tensors[position]) if position in tensors else None,
            origin=example.origin if position in tensors else None,
        )
        for position, argument in enumerate(arguments)
    ]


def _describe_output(ending: Ending, rows: int) -> contract.Output:
    tensor = ending.output.tensor
    shape: list[int | None] = list(tensor.shape)
    if shape[:1] == [rows]:
        shape[0] = None
    found = ending.structure
    return contract.Output(
        label=ending.output.label,
        shape=shape,
        dtype=dtype_name(tensor),
        head=None if found is None else printable(found.location),
        link=None if found is None else printable(found.link),
    )


def _describe_candidate(candidate: Candidate) -> contract.Candidate:
    return contract.Candidate(
        location=candidate.location,
        operation=candidate.operation,
        number=candidate.index + 1,
        kind=candidate.kind,
        features=candidate.features,
        outputs=candidate.outputs,
        taken=candidate.is_taken,
        reason=candidate.reason[:_REASON_CHARACTERS],
    )

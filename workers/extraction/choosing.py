"""Which of a model's results and linear layers are meant: by what is unique, or by its owner."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.analyses.options import FeatureMapChoice
from workers.errors import JobError
from workers.extraction.execution import Output
from workers.extraction.operations import Step
from workers.extraction.refusals import Refusal, printable, refuse
from workers.extraction.structure import (
    Names,
    Structure,
    carrying_factor,
    declare_head,
    locate,
    trace_output,
    weight_names,
)
from workers.extraction.tape import Tape

_LISTED = 20


@dataclass(frozen=True, slots=True)
class DeclaredFeatures:
    """Φ as one of the model's results.

    Attributes:
        features: Label of the result that is Φ.
        output: Label of the result that is u.
        structure: Where Φ is an operation's input as well, which proves the relation; or `None`.
    """

    features: str
    output: str
    structure: Structure | None


def choose(
    tape: Tape, outputs: Sequence[Output], names: Names, choice: FeatureMapChoice | None
) -> Structure | DeclaredFeatures:
    """Finds the head that is meant.

    Args:
        tape: A recorded run.
        outputs: Its results.
        names: The model's names.
        choice: What its owner says; `None` if nothing.

    Raises:
        JobError: `head_not_found` or `unsupported_model`, with the reason in `detail.code`.
    """
    if choice is None:
        return find_structure(tape, outputs, names)
    if choice.features_output is not None:
        return _declared_features(tape, outputs, names, choice)
    if choice.output is not None:
        outputs = [choose_output(outputs, choice.output)]
    if choice.module is None and choice.operation is None:
        return trace_output(tape, outputs[0], names)
    step = _chosen_step(tape, names, choice)
    for output in outputs:
        try:
            structure = trace_output(tape, output, names)
        except JobError:
            continue
        if structure.head is step:
            return structure
    return declare_head(tape, step, names)


def find_structure(tape: Tape, outputs: Sequence[Output], names: Names) -> Structure:
    """Finds the head behind the only output that has one.

    Raises:
        JobError: `head_not_found` or `unsupported_model`, with the reason in `detail.code`.
    """
    # A number for the whole batch, such as a loss, is no rival of outputs per sample.
    outputs = [output for output in outputs if output.tensor.dim()] or outputs
    if len(outputs) == 1:
        return trace_output(tape, outputs[0], names)
    found: list[Structure] = []
    refused: dict[str, JobError] = {}
    for output in outputs:
        try:
            found.append(trace_output(tape, output, names))
        except JobError as error:
            refused[output.label] = error
    # An output that merely has no head (an embedding, an attention map) is no rival. One that has
    # a head of another kind is: it may be the one meant.
    rivals = [
        label
        for label, error in refused.items()
        if error.failure.detail["code"] != Refusal.NO_LINEAR_HEAD
    ]
    if found and not rivals and all(_agree(found[0], other) for other in found[1:]):
        # Logits and their softmax, say: the same u, so the one with the shortest way is taken.
        return min(found, key=lambda structure: len(structure.names))
    if not found and not rivals:
        raise _none_has_a_head(refused)
    labels = sorted([str(structure.output) for structure in found] + rivals)
    raise refuse(
        Refusal.AMBIGUOUS_OUTPUT,
        f"The model returns {len(outputs)} float tensors, of which {', '.join(labels)} could each "
        "be the network's outputs; expected exactly one that ends in a linear layer.",
        outputs=[output.label for output in outputs],
        candidates=list(labels),
    )


def choose_output(outputs: Sequence[Output], wanted: str | int) -> Output:
    """Returns the result of a name or a position.

    Raises:
        JobError: `unsupported_model` (`bad_output`) unless there is exactly one.
    """
    found = [
        output
        for output in outputs
        if (output.position if isinstance(wanted, int) else output.label) == wanted
    ]
    if len(found) != 1:
        there = ", ".join(f"{o.label!r} (position {o.position})" for o in outputs[:_LISTED])
        raise refuse(
            Refusal.BAD_OUTPUT,
            f"The model has {len(found) or 'no'} float results {printable(repr(wanted), 80)}; it "
            f"has {there}.",
            hint="Name one of them in options.feature_map, by its name or its position from 0.",
            outputs=[output.label for output in outputs[:_LISTED]],
        )
    return found[0]


def _agree(one: Structure, other: Structure) -> bool:
    """Whether two outputs are links of the very same head, with nothing between head and link."""
    return one.head is other.head and one.depth == other.depth == 0


def _none_has_a_head(refused: dict[str, JobError]) -> JobError:
    reasons = [f"output {label}: {error.failure.message}" for label, error in refused.items()]
    return refuse(
        Refusal.NO_LINEAR_HEAD,
        f"None of the model's {len(refused)} outputs ends in a linear layer. {' '.join(reasons)}"[
            :2000
        ],
        outputs=list(refused),
    )


def _chosen_step(tape: Tape, names: Names, choice: FeatureMapChoice) -> Step:
    heads = [step for step in tape.steps if carrying_factor(tape, step) is not None]
    if choice.operation is not None:
        found = [step for step in heads if step.index + 1 == choice.operation]
        wanted = f"at operation {choice.operation}"
    else:
        module = str(choice.module)
        found = [step for step in heads if _belongs(tape, step, names, module)]
        wanted = f"with the weights of {printable(module, 200)!r}"
    if len(found) == 1:
        return found[0]
    places = [_place(tape, step, names) for step in (found or heads)[-_LISTED:]]
    count = f"{len(found)} linear operations" if found else "no linear operation"
    raise refuse(
        Refusal.NO_LINEAR_HEAD,
        f"The model runs {count} {wanted}; expected one. "
        f"{'They are' if found else 'It runs'}: {'; '.join(places) or 'none at all'}.",
        hint=(
            'Name one layer in options.feature_map, as {"module": "classifier.6"}, or its '
            'operation, as {"operation": 12}. GET /v1/models/{id}/inspection lists them.'
        ),
        candidates=list(places),
    )


def _place(tape: Tape, step: Step, names: Names) -> str:
    location = locate(tape, step, carrying_factor(tape, step) or 0, names)
    return f"{location} at operation {step.index + 1}"


def _belongs(tape: Tape, step: Step, names: Names, module: str) -> bool:
    operand = carrying_factor(tape, step)
    return operand is not None and any(
        name == module or name.startswith(f"{module}.")
        for name in weight_names(tape, step, operand, names)
    )


def _declared_features(
    tape: Tape, outputs: Sequence[Output], names: Names, choice: FeatureMapChoice
) -> DeclaredFeatures:
    features = choose_output(outputs, choice.features_output or 0)
    others = [output for output in outputs if output is not features]
    if choice.output is not None:
        others = [choose_output(outputs, choice.output)]
    if len(others) != 1 or others[0] is features:
        raise refuse(
            Refusal.AMBIGUOUS_OUTPUT,
            f"Beside the features {features.label!r} the model returns {len(others)} float "
            f"results: {', '.join(o.label for o in others[:_LISTED]) or 'none'}. Expected one, the "
            "network's outputs.",
            hint='Say which, as {"features_output": "features", "output": "logits"}.',
            outputs=[output.label for output in outputs[:_LISTED]],
        )
    try:
        structure = trace_output(tape, others[0], names)
    except JobError:
        structure = None
    return DeclaredFeatures(features.label, others[0].label, structure)

"""Which of a model's results and linear layers are meant: by what is unique, or by its owner."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import JsonValue

from service.contract.options import FeatureMapChoice
from workers.extraction.head.advising import (
    chosen,
    last_layer,
    layers_by_result,
    listed,
    name_of,
    widths,
)
from workers.extraction.head.lineage import adds_no_layer, computed_from, goes_on, lies_among
from workers.extraction.head.structure import (
    Names,
    Structure,
    carrying_factor,
    declare_head,
    locate,
    trace_output,
    weight_names,
)
from workers.extraction.refusals import Refusal, printable, refuse
from workers.extraction.trace.execution import Output
from workers.extraction.trace.operations import Step
from workers.extraction.trace.tape import Tape
from workers.protocol.errors import JobError

_LISTED = 20


@dataclass(frozen=True, slots=True)
class DeclaredFeatures:
    """Φ as one of the model's results.

    Attributes:
        features: Label of the result that is Φ.
        output: Label of the result that is u; `None` where the model returns features alone.
        structure: Where Φ is an operation's input as well, which proves the relation; or `None`.
    """

    features: str
    output: str | None
    structure: Structure | None


def choose(
    tape: Tape,
    outputs: Sequence[Output],
    names: Names,
    choice: FeatureMapChoice | None,
    samples: int,
) -> Structure | DeclaredFeatures:
    """Find the head that is meant.

    Args:
        tape: A recorded run.
        outputs: Its results.
        names: The model's names.
        choice: What its owner says; `None` if nothing.
        samples: How many the model was given.

    Raises:
        JobError: `head_not_found` or `unsupported_model`, with the reason in `detail.code`.
    """
    if choice is None:
        return find_structure(tape, outputs, names, samples)
    if choice.features_output is not None:
        return _declared_features(tape, outputs, names, choice)
    if choice.output is not None:
        outputs = [choose_output(outputs, choice.output)]
    if choice.module is None and choice.operation is None:
        return trace_output(tape, outputs[0], names)
    steps = _chosen_steps(tape, outputs, names, choice, samples)
    for output in outputs:
        try:
            structure = trace_output(tape, output, names)
        except JobError:
            continue
        if all(any(head is step for step in steps) for head in structure.heads):
            return structure
    if len(steps) > 1:
        raise _not_one(tape, outputs, names, choice, steps, samples=samples)
    answers = [output.label for output in outputs if output.tensor.dim()]
    return declare_head(tape, steps[0], names, answers[0] if len(answers) == 1 else None)


def find_structure(tape: Tape, outputs: Sequence[Output], names: Names, samples: int) -> Structure:
    """Find the head behind the only output that has one.

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
    rivals = [
        output
        for output in outputs
        if output.label in refused and _is_rival(tape, output, refused[output.label], found)
    ]
    if not found and not rivals:
        raise _none_has_a_head(refused)
    last = _last(tape, found, rivals)
    if last is not None:
        gone_on = [o for o in outputs if o.label in refused and goes_on(tape, last, o.tensor)]
        if gone_on:
            raise _not_the_last(choose_output(outputs, str(last.output)), gone_on[0])
        return last
    # What holds no row for each sample cannot be the outputs, so it is not asked about.
    found = [one for one in found if _has_rows(choose_output(outputs, str(one.output)), samples)]
    rivals = [rival for rival in rivals if _has_rows(rival, samples)]
    if len(found) + len(rivals) > 1:
        with_head = [choose_output(outputs, str(one.output)) for one in found]
        layers = [
            last_layer(tape, [rival], names, samples, widths(rival.tensor)) for rival in rivals
        ]
        raise _ambiguous(outputs, with_head, list(zip(rivals, layers, strict=True)))
    if rivals:
        why = refused[rivals[0].label].failure
        only: dict[str, JsonValue] = {**why.detail, "outputs": [rivals[0].label]}
        raise JobError(why.code, why.message, hint=why.hint, detail=only)
    if not found:
        raise _no_rows(outputs, samples)
    return found[0]


def _is_rival(tape: Tape, output: Output, why: JobError, found: Sequence[Structure]) -> bool:
    """Return whether a result that was refused may be the one meant, beside those that have a head.

    One that has a head of another kind may be. One without any, such as an embedding or an
    attention map, only if a layer of its own made it, and not from the outputs of a head.
    """
    if why.failure.detail["code"] != Refusal.NO_LINEAR_HEAD:
        return True
    tensor = output.tensor
    return bool(found) and not any(
        adds_no_layer(tape, tensor, one) or goes_on(tape, one, tensor) for one in found
    )


def _ambiguous(
    outputs: Sequence[Output],
    with_head: Sequence[Output],
    rivals: Sequence[tuple[Output, dict[str, JsonValue] | None]],
) -> JobError:
    """Return the question which of several results is meant, with the choice of each.

    Args:
        outputs: All results.
        with_head: Those that end in a linear layer.
        rivals: Those that do not end in one, each with the layer that can be chosen on its way.
    """
    meant = {output.label for output in (*with_head, *(rival for rival, _ in rivals))}
    labels = [output.label for output in outputs if output.label in meant]
    ways: list[str] = []
    if with_head:
        each: list[dict[str, JsonValue]] = [{"output": name_of(one)} for one in with_head]
        ways.append(f"Name the one that is meant, as {listed(each)}.")
    for rival, layer in rivals:
        if layer is not None:
            choice: dict[str, JsonValue] = {"output": name_of(rival), **layer}
            ways.append(
                f"`{rival.label}` does not end in one linear layer; if it is meant, name the layer "
                f"with it, as {chosen(choice)}."
            )
    ways.append("Or save the model so that it returns one tensor, its logits.")
    return refuse(
        Refusal.AMBIGUOUS_OUTPUT,
        f"The model returns {len(outputs)} float tensors, of which {', '.join(labels)} could each "
        "be the network's outputs, and none of them lies on the way to another; expected exactly "
        "one that ends in a linear layer.",
        hint=" ".join(ways),
        outputs=[output.label for output in outputs],
        candidates=list(labels),
    )


def _has_rows(output: Output, samples: int) -> bool:
    return output.tensor.shape[:1] == (samples,)


def _no_rows(outputs: Sequence[Output], samples: int) -> JobError:
    shapes = ", ".join(f"{o.label}: {list(o.tensor.shape)}" for o in outputs[:_LISTED])
    return refuse(
        Refusal.BAD_OUTPUT,
        f"The model was given {samples} samples, and none of its {len(outputs)} results that may "
        f"be its outputs has as many rows. Their shapes: {shapes}.",
        outputs=[output.label for output in outputs[:_LISTED]],
    )


def _last(tape: Tape, found: Sequence[Structure], rivals: Sequence[Output]) -> Structure | None:
    """Return the result that all others lead to, or are the same u as; `None` if there is none.

    Features returned beside the logits may end in a linear layer themselves. They are no rivals:
    the run shows that the head of the logits works on what was computed from them.
    """
    # Of logits and their softmax, say, the one with the shortest way is taken.
    for structure in sorted(found, key=lambda one: len(one.names)):
        before = computed_from(tape, structure)
        others = [other for other in found if not _agree(structure, other)]
        if all(id(head.outputs[0]) in before for other in others for head in other.heads) and all(
            lies_among(tape, rival.tensor, before) for rival in rivals
        ):
            passed = [str(other.output) for other in others] + [rival.label for rival in rivals]
            return replace(structure, passed_over=tuple(sorted(passed)))
    return None


def _not_the_last(found: Output, last: Output) -> JobError:
    one = chosen({"output": name_of(found)})
    both = chosen({"features_output": name_of(found), "output": name_of(last)})
    return refuse(
        Refusal.AMBIGUOUS_OUTPUT,
        f"The result `{found.label}` ends in a linear layer, but `{last.label}` was computed from "
        "it by a further layer, in a way that could not be followed. Either may be the network's "
        "outputs.",
        hint=(
            f"If `{found.label}` is, say {one}; if it is the features of `{last.label}`, {both}. "
            "GET /v1/models/{id}/inspection lists the linear layers, one of which may be named "
            "instead."
        ),
        candidates=[found.label, last.label],
    )


def choose_output(outputs: Sequence[Output], wanted: str | int) -> Output:
    """Return the result of a name or a position.

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
    """Return whether two outputs are links of the very same u."""
    return one.stem == other.stem


def _none_has_a_head(refused: dict[str, JobError]) -> JobError:
    reasons = [f"output {label}: {error.failure.message}" for label, error in refused.items()]
    return refuse(
        Refusal.NO_LINEAR_HEAD,
        f"None of the model's {len(refused)} outputs ends in a linear layer. {' '.join(reasons)}"[
            :2000
        ],
        outputs=list(refused),
    )


def _chosen_steps(
    tape: Tape, outputs: Sequence[Output], names: Names, choice: FeatureMapChoice, samples: int
) -> list[Step]:
    """Return the executions of the one layer that is meant."""
    heads = [step for step in tape.steps if carrying_factor(tape, step) is not None]
    if choice.operation is not None:
        found = [step for step in heads if step.index + 1 == choice.operation]
    else:
        module = str(choice.module)
        found = [step for step in heads if _belongs(tape, step, names, module)]
    if len({_layer(tape, step, names) for step in found}) != 1:
        raise _not_one(tape, outputs, names, choice, found, samples=samples)
    return found


def _not_one(
    tape: Tape,
    outputs: Sequence[Output],
    names: Names,
    choice: FeatureMapChoice,
    found: Sequence[Step],
    *,
    samples: int,
) -> JobError:
    heads = [step for step in tape.steps if carrying_factor(tape, step) is not None]
    wanted = (
        f"with the weights of {printable(str(choice.module), 200)!r}"
        if choice.operation is None
        else f"at operation {choice.operation}"
    )
    places = [
        f"{_layer(tape, step, names)} at operation {step.index + 1}"
        for step in (found or heads)[-_LISTED:]
    ]
    count = f"{len(found)} linear operations" if found else "no linear operation"
    is_alone = choice.output is None and len(outputs) == 1
    there = layers_by_result(tape, outputs, names, samples, alone=is_alone)
    example = f", as {listed(there)}" if there else ""
    return refuse(
        Refusal.NO_LINEAR_HEAD,
        f"The model runs {count} {wanted}; expected one. "
        f"{'They are' if found else 'It runs'}: {'; '.join(places) or 'none at all'}.",
        hint=(
            f"Name one layer by its module or operation{example}. "
            "GET /v1/models/{id}/inspection lists them."
        ),
        candidates=list(places),
    )


def _layer(tape: Tape, step: Step, names: Names) -> str:
    return locate(tape, step, carrying_factor(tape, step) or 0, names)


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
    if not others:
        return DeclaredFeatures(features.label, None, None)
    if others[0] is features:
        raise refuse(
            Refusal.AMBIGUOUS_OUTPUT,
            f"The result {features.label!r} is chosen both for the features and for the network's "
            "outputs; expected two results.",
            hint=_beside(features, [output for output in outputs if output is not features]),
            outputs=[output.label for output in outputs[:_LISTED]],
        )
    if len(others) != 1:
        raise refuse(
            Refusal.AMBIGUOUS_OUTPUT,
            f"Beside the features {features.label!r} the model returns {len(others)} float "
            f"results: {', '.join(o.label for o in others[:_LISTED])}. Expected one, the "
            "network's outputs.",
            hint=_beside(features, others),
            outputs=[output.label for output in outputs[:_LISTED]],
        )
    try:
        structure = trace_output(tape, others[0], names)
    except JobError:
        structure = None
    return DeclaredFeatures(features.label, others[0].label, structure)


def _beside(features: Output, others: Sequence[Output]) -> str:
    """Return the choices of a result that holds features, with each other one for the outputs."""
    if not others:
        return (
            "If they are the features, with no outputs, say "
            f"{chosen({'features_output': name_of(features)})}."
        )
    each: list[dict[str, JsonValue]] = [
        {"features_output": name_of(features), "output": name_of(other)} for other in others
    ]
    return f"Say which result holds the outputs, as {listed(each)}."

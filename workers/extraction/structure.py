"""What one recorded run fixes about a model: where its head is, and what follows it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.errors import JobError
from workers.extraction.carry import carry
from workers.extraction.consistency import finite, supported
from workers.extraction.execution import Output
from workers.extraction.heads import find_operand, not_a_head, parse_head
from workers.extraction.refusals import Refusal, refuse
from workers.extraction.tape import Site, Tape, storage_key
from workers.extraction.walk import walk_back


@dataclass(frozen=True, slots=True)
class Structure:
    """The relation u = Φ Wᵀ + b, f = link(u) of one model, and how to find Φ in another run.

    Attributes:
        output: Label of the result f.
        site: Where the head runs.
        names: Operations from the head to the output.
        kind: `linear` or `conv1x1`.
        link: The function f = link(u).
        depth: How many operations after the head lead to u; the rest is the link.
        weight: W, [C, p] float64, affine operations after the head folded in.
        bias: b, [C] float64, likewise, or `None`.
        head_op: Name of the head's operation.
        head_index: Its position among all operations, from 0.
        head_storage: Names the memory of the head's weight.
        changes_input: The model writes into its input.
    """

    output: str
    site: Site
    names: tuple[str, ...]
    kind: str
    link: str
    depth: int
    weight: Tensor
    bias: Tensor | None
    head_op: str
    head_index: int
    head_storage: int
    changes_input: bool


def find_structure(tape: Tape, outputs: Sequence[Output]) -> Structure:
    """Finds the head behind the only output that has one.

    Raises:
        JobError: `head_not_found` or `unsupported_model`, with the reason in `detail.code`.
    """
    if len(outputs) == 1:
        return _structure(tape, outputs[0])
    found: list[Structure] = []
    refused: dict[str, JobError] = {}
    for output in outputs:
        try:
            found.append(_structure(tape, output))
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
    labels = sorted([structure.output for structure in found] + rivals)
    raise refuse(
        Refusal.AMBIGUOUS_OUTPUT,
        f"The model returns {len(outputs)} float tensors, of which {', '.join(labels)} could each "
        "be the network's outputs; expected exactly one that ends in a linear layer.",
        outputs=[output.label for output in outputs],
        candidates=list(labels),
    )


def _agree(one: Structure, other: Structure) -> bool:
    """Whether two outputs are links of the very same head, with nothing between head and link."""
    return one.site == other.site and one.depth == other.depth == 0


def _none_has_a_head(refused: dict[str, JobError]) -> JobError:
    reasons = [f"output {label}: {error.failure.message}" for label, error in refused.items()]
    return refuse(
        Refusal.NO_LINEAR_HEAD,
        f"None of the model's {len(refused)} outputs ends in a linear layer. {' '.join(reasons)}"[
            :2000
        ],
        outputs=list(refused),
    )


def _structure(tape: Tape, output: Output) -> Structure:
    path = walk_back(tape, output.tensor)
    operand = find_operand(path.head, tape.depends)
    features = path.head.args[operand]
    if not isinstance(features, Tensor) or not supported(features.dtype):
        raise not_a_head(path.head, "it does not work on floating-point features")
    head = parse_head(path.head, operand, features)
    carried = carry(head, path.hops)
    weight = carried.logits.weight(head)
    bias = carried.logits.bias(len(weight))
    if not finite(weight) or not (bias is None or finite(bias)):
        raise refuse(
            Refusal.NON_FINITE,
            "The weights of the last linear layer contain NaN or infinite values.",
            hint="Send a checkpoint from before the training diverged.",
            operation=path.head.name,
        )
    earlier = tape.steps[: path.head.index]
    occurrence = sum(step.func is path.head.func for step in earlier)
    return Structure(
        output=output.label,
        site=Site(path.head.func, occurrence, operand),
        names=path.names,
        kind=head.kind,
        link=carried.link,
        depth=carried.depth,
        weight=weight,
        bias=bias,
        head_op=path.head.name,
        head_index=path.head.index,
        head_storage=storage_key(head.weight),
        changes_input=tape.changes_inputs(),
    )


def locate(structure: Structure, model: torch.nn.Module, tape: Tape) -> str:
    """Names the head for people: its parameter, or its operation where parameters have no names."""
    for name, parameter in model.named_parameters():
        if storage_key(parameter) == structure.head_storage:
            return name
    return f"{structure.head_op} (operation {structure.head_index + 1} of {len(tape.steps)})"


def count_parameters(model: torch.nn.Module, tape: Tape) -> int:
    """Counts a model's parameters; in a frozen archive, the constants that it used."""
    named = sum(parameter.numel() for parameter in model.parameters())
    if named:
        return named
    constants = {storage_key(t): t.numel() for t in tape.constants() if t.is_floating_point()}
    return sum(constants.values())

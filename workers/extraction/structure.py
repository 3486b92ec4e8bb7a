"""What one recorded run fixes about a model: where its head is, and what follows it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from workers.errors import JobError
from workers.extraction.carry import Carried, carry
from workers.extraction.consistency import finite, supported
from workers.extraction.execution import Output
from workers.extraction.heads import HEADS, Head, find_operand, not_a_head, parse_head
from workers.extraction.operations import Step
from workers.extraction.path import Path
from workers.extraction.refusals import Refusal, refuse
from workers.extraction.relation import Relation
from workers.extraction.tape import Site, Tape, storage_key
from workers.extraction.walk import walk_back

UNVERIFIED = "unverified"
"""The link where the owner chose the head and nothing shows how the answer follows from it."""


@dataclass(frozen=True, slots=True)
class Structure:
    """The relation u = Φ Wᵀ + b, f = link(u) of one model, and how to find Φ in another run.

    Attributes:
        output: Label of the result f; `None` if the owner chose a head that no result is known to
            follow from.
        site: Where the head runs.
        names: Operations from the head to the output.
        kind: `linear`, `conv1x1`, ….
        link: The function f = link(u).
        depth: How many operations after the head lead to u; the rest is the link.
        weight: W, [C, p] float64, affine operations after the head folded in.
        bias: b, [C] float64, likewise, or `None`.
        head: The head in the recorded run.
        location: The head for people: its parameter, or its operation where those have no names.
        changes_input: The model writes into its input.
    """

    output: str | None
    site: Site
    names: tuple[str, ...]
    kind: str
    link: str
    depth: int
    weight: Tensor
    bias: Tensor | None
    head: Step
    location: str
    changes_input: bool


@dataclass(frozen=True, slots=True)
class Names:
    """The names of a model's parameters and buffers, by their memory.

    Attributes:
        by_storage: Names of the tensor with that memory: several where weights are tied.
    """

    by_storage: dict[int, list[str]]

    @classmethod
    def of(cls, model: torch.nn.Module) -> "Names":
        """Reads a model's names. A frozen archive has none."""
        by_storage: dict[int, list[str]] = {}
        for named in (model.named_parameters, model.named_buffers):
            for name, tensor in named(remove_duplicate=False):
                by_storage.setdefault(storage_key(tensor), []).append(name)
        return cls(by_storage)

    def among(self, tensors: list[Tensor]) -> list[str]:
        """The names of those tensors that have one, the largest tensor first."""
        by_size = sorted(tensors, key=lambda tensor: -tensor.numel())
        keys = dict.fromkeys(storage_key(tensor) for tensor in by_size)
        # Of tied weights the last name is the head's as a rule, the first an embedding's.
        return [name for key in keys for name in reversed(self.by_storage.get(key, []))]


def carrying_factor(tape: Tape, step: Step) -> int | None:
    """Which factor of an operation is the one that depends on the input, as a head's Φ is.

    Returns:
        Its position among the operation's factors; `None` if it is no linear operation, or if not
        exactly one factor depends on the input.
    """
    if step.name not in HEADS:
        return None
    try:
        factors = HEADS[step.name].factors(step)
    except JobError:
        return None
    dependent = [k for k, factor in enumerate(factors) if tape.depends(factor)]
    return dependent[0] if len(dependent) == 1 else None


def weight_names(tape: Tape, step: Step, operand: int, names: Names) -> list[str]:
    """The parameters that a head's weight is, or is computed from."""
    factors = HEADS[step.name].factors(step)
    others = [factor for k, factor in enumerate(factors) if k != operand]
    return names.among([root for factor in others for root in tape.roots(factor)])


def locate(tape: Tape, step: Step, operand: int, names: Names) -> str:
    """Names a head for people: its parameter, or its operation where parameters have no names."""
    found = weight_names(tape, step, operand, names)
    return found[0] if found else f"{step.name} (operation {step.index + 1} of {len(tape.steps)})"


def trace_output(tape: Tape, output: Output, names: Names) -> Structure:
    """Finds the head that an output comes from.

    Raises:
        JobError: `head_not_found`, `non_finite` or `unsupported_model`, with the reason.
    """
    if not output.tensor.dim():
        raise refuse(
            Refusal.BAD_OUTPUT,
            "The model returns a single number for the whole batch; expected one row per sample.",
        )
    return _structure(tape, walk_back(tape, output.tensor), output.label, names)


def declare_head(tape: Tape, step: Step, names: Names) -> Structure:
    """Takes the owner's word that a linear operation is the head; u is what it gives.

    Raises:
        JobError: As `trace_output`.
    """
    return _structure(tape, Path(step, ()), None, names)


def _read(tape: Tape, step: Step) -> tuple[int, Head]:
    operand = find_operand(step, tape.depends)
    features = HEADS[step.name].factors(step)[operand]
    if not supported(features.dtype):
        raise not_a_head(step, f"it does not work on floating-point features but {features.dtype}")
    return operand, parse_head(step, operand, features)


def _structure(tape: Tape, path: Path, output: str | None, names: Names) -> Structure:
    operand, head = _read(tape, path.head)
    if output is None:
        carried = Carried(Relation.of(head), 0, UNVERIFIED)
    else:
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
    return Structure(
        output=output,
        site=_site(tape, path.head, operand),
        names=path.names,
        kind=head.kind,
        link=carried.link,
        depth=carried.depth,
        weight=weight,
        bias=bias,
        head=path.head,
        location=locate(tape, path.head, operand, names),
        changes_input=tape.changes_inputs(),
    )


def _site(tape: Tape, step: Step, operand: int) -> Site:
    earlier = tape.steps[: step.index]
    occurrence = sum(other.func is step.func for other in earlier)
    factors = HEADS[step.name].factors(step)
    own = {storage_key(tensor) for tensor in tape.constants()}
    key = storage_key(factors[1 - operand]) if len(factors) > 1 else None
    return Site(step.func, operand, key if key in own else None, occurrence)


def count_parameters(model: torch.nn.Module, tape: Tape) -> int:
    """Counts a model's parameters; in a frozen archive, the constants that it used."""
    named = sum(parameter.numel() for parameter in model.parameters())
    if named:
        return named
    constants = {storage_key(t): t.numel() for t in tape.constants() if t.is_floating_point()}
    return sum(constants.values())

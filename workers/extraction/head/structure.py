"""What one recorded run fixes about a model: where its head is, and what follows it."""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch._ops import OpOverload

from workers.extraction.head.carry import carry
from workers.extraction.head.kinds import HEADS, Head, find_operand, not_a_head, parse_head
from workers.extraction.head.rules.path import Path
from workers.extraction.head.series import shared_beginnings
from workers.extraction.head.tap import Site
from workers.extraction.head.walk import walk_back
from workers.extraction.refusals import Refusal, refuse
from workers.extraction.trace.consistency import finite, supported
from workers.extraction.trace.execution import Output
from workers.extraction.trace.operations import Step
from workers.extraction.trace.tape import Tape, storage_key
from workers.protocol.errors import JobError

NO_LINK = "none"
"""The link where a model returns features alone."""

UNVERIFIED = "unverified"
"""The link where the owner chose the head and nothing shows how the answer follows from it."""


@dataclass(frozen=True, slots=True)
class Structure:
    """The relation u = Φ Wᵀ + b, f = link(u) of one model, and how to find Φ in another run.

    Attributes:
        output: Label of the result f; `None` if the owner chose a head that no result is known to
            follow from.
        sites: Where its heads run: one, unless several are one linear layer.
        names: Operations from the heads to the output.
        kind: `linear`, `conv1x1`, ….
        link: The function f = link(u).
        weight: W, `(C, p)` float64, affine operations after the head folded in.
        bias: b, `(C,)` float64, likewise, or `None`.
        heads: The heads in the recorded run.
        stem: Names the way from the heads to u: equal for results of the same u.
        location: The head for people: its parameter, or its operation where those have no names.
        joined: How several layers are one, as a warning; empty if there is one.
        passed_over: Labels of results that were no rivals, as they lie on the way to this one.
        answer: Label of the result that the model answers with: `output`, or the one that is meant
            where the owner chose the head; `None` if several may be.
        changes_input: The model writes into its input.
    """

    output: str | None
    sites: tuple[Site, ...]
    names: tuple[str, ...]
    kind: str
    link: str
    weight: Tensor
    bias: Tensor | None
    heads: tuple[Step, ...]
    stem: Hashable
    location: str
    joined: str
    passed_over: tuple[str, ...]
    answer: str | None
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
        """Read a model's names. A frozen archive has none."""
        by_storage: dict[int, list[str]] = {}
        for named in (model.named_parameters, model.named_buffers):
            for name, tensor in named(remove_duplicate=False):
                by_storage.setdefault(storage_key(tensor), []).append(name)
        return cls(by_storage)

    def among(self, tensors: list[Tensor]) -> list[str]:
        """Return the names of those tensors that have one, the largest tensor first."""
        by_size = sorted(tensors, key=lambda tensor: -tensor.numel())
        keys = dict.fromkeys(storage_key(tensor) for tensor in by_size)
        # Of tied weights the last name is the head's as a rule, the first an embedding's.
        return [name for key in keys for name in reversed(self.by_storage.get(key, []))]


def carrying_factor(tape: Tape, step: Step) -> int | None:
    """Return which factor of an operation is the one that depends on the input, as a head's Φ is.

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
    """Return the parameters that a head's weight is, or is computed from."""
    factors = HEADS[step.name].factors(step)
    others = [factor for k, factor in enumerate(factors) if k != operand]
    return names.among([root for factor in others for root in tape.roots(factor)])


def locate(tape: Tape, step: Step, operand: int, names: Names) -> str:
    """Name a head for people: its parameter, or its operation where parameters have no names."""
    found = weight_names(tape, step, operand, names)
    return found[0] if found else f"{step.name} (operation {step.index + 1} of {len(tape.steps)})"


def trace_output(tape: Tape, output: Output, names: Names) -> Structure:
    """Find the head that an output comes from.

    Raises:
        JobError: `head_not_found`, `non_finite` or `unsupported_model`, with the reason.
    """
    if not output.tensor.dim():
        raise refuse(
            Refusal.BAD_OUTPUT,
            "The model returns a single number for the whole batch; expected one row per sample.",
        )
    return _structure(tape, find_path(tape, output.tensor), output.label, names)


def find_path(tape: Tape, output: Tensor) -> Path:
    """Walk back from an output to its heads; where several are joined, to those of one Φ.

    Raises:
        JobError: As `walk_back`.
    """
    path = walk_back(tape, output)
    heads = {head.index: head for head in path.heads}
    if len(heads) == 1:
        return path
    ends = shared_beginnings(tape, list(heads.values()))
    if ends == heads.keys():
        return path
    return walk_back(tape, output, ends=lambda step: step.index in ends)


def declare_head(tape: Tape, step: Step, names: Names, answer: str | None) -> Structure:
    """Take the owner's word that a linear operation is the head; u is what it gives.

    Args:
        tape: The recorded run.
        step: The operation.
        names: The model's names.
        answer: Label of the result that the model answers with; `None` if several may be.

    Raises:
        JobError: As `trace_output`.
    """
    return replace(_structure(tape, Path(step, ()), None, names), answer=answer)


def _structure(tape: Tape, path: Path, output: str | None, names: Names) -> Structure:
    operands = {head.index: find_operand(head, tape.depends) for head in path.heads}
    kinds: list[str] = []

    def read(step: Step) -> tuple[Head, Tensor]:
        features = HEADS[step.name].factors(step)[operands[step.index]]
        if not supported(features.dtype):
            reason = f"it does not work on floating-point features but {features.dtype}"
            raise not_a_head(step, reason)
        head = parse_head(step, operands[step.index], features)
        kinds.append(head.kind)
        return head, step.outputs[0]

    carried = carry(path, read)
    weight, bias = carried.logits.weight(), carried.logits.bias()
    if not finite(weight) or not (bias is None or finite(bias)):
        raise refuse(
            Refusal.NON_FINITE,
            "The weights of the last linear layer contain NaN or infinite values.",
            hint="Send a checkpoint from before the training diverged.",
            operation=path.heads[0].name,
        )
    layers = _locations(tape, path, names)
    return Structure(
        output=output,
        sites=tuple(_sites(tape, operands)),
        names=path.names,
        kind=kinds[0],
        link=UNVERIFIED if output is None else carried.link,
        weight=weight,
        bias=bias,
        heads=path.heads,
        stem=carried.stem,
        location=", ".join(layers),
        joined=_joined(path, layers),
        passed_over=(),
        answer=output,
        changes_input=tape.changes_inputs(),
    )


def _locations(tape: Tape, path: Path, names: Names) -> list[str]:
    """Name the linear layers on a path, each once, in order."""
    found: dict[Hashable, str] = {}
    for step in path.steps():
        operand = carrying_factor(tape, step)
        if operand is not None:
            weights = [f for k, f in enumerate(HEADS[step.name].factors(step)) if k != operand]
            own = frozenset(storage_key(root) for f in weights for root in tape.roots(f))
            found.setdefault(own or step.index, locate(tape, step, operand, names))
    return list(found.values())


def _joined(path: Path, layers: Sequence[str]) -> str:
    """Return how several layers are one, as a warning."""
    if len(layers) == 1:
        return ""
    listed = ", ".join(layers)
    first = {head.index for head in path.heads}
    if any(step.name in HEADS and step.index not in first for step in path.steps()):
        return (
            f"layers_in_series: W is the sum of layers on the same features, {listed}; where one "
            "of them follows another, as in a low-rank update, it is their product."
        )
    return (
        f"several_layers: the outputs are those of {len(layers)} linear layers on the same "
        f"features, taken together: {listed}. W is made of all of theirs."
    )


def _sites(tape: Tape, operands: Mapping[int, int]) -> Iterator[Site]:
    """Yield where heads run, by position in the tape, given which factor of each carries Φ."""
    own = {storage_key(tensor) for tensor in tape.constants()}
    executions: Counter[OpOverload] = Counter()
    for step in tape.steps:
        if step.index in operands:
            operand, factors = operands[step.index], HEADS[step.name].factors(step)
            key = storage_key(factors[1 - operand]) if len(factors) > 1 else None
            known = key if key in own else None
            yield Site(step.func, operand, known, executions[step.func])
        executions[step.func] += 1


def count_parameters(model: torch.nn.Module, tape: Tape) -> int:
    """Count a model's parameters; in a frozen archive, the constants that it used."""
    named = sum(parameter.numel() for parameter in model.parameters())
    if named:
        return named
    constants = {storage_key(t): t.numel() for t in tape.constants() if t.is_floating_point()}
    return sum(constants.values())

"""Carrying z = Φ Wᵀ + b from the heads to the output, by the table of rules."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from workers.extraction.head.kinds import HEADS, Head
from workers.extraction.head.rules import AFFINE, CHOOSING, JOINING, POOLING, RULES
from workers.extraction.head.rules.composing import compose
from workers.extraction.head.rules.joining import ADDING, not_one_layer
from workers.extraction.head.rules.links import linked
from workers.extraction.head.rules.path import Hop, Join, Path, replay
from workers.extraction.head.rules.positions import keeps_values, reshape
from workers.extraction.head.rules.redoing import redone
from workers.extraction.head.rules.relation import Relation, not_followed
from workers.extraction.refusals import Refusal, refuse
from workers.extraction.trace.operations import Step
from workers.protocol.errors import JobError

Reading = Callable[[Step], tuple[Head, Tensor]]
"""Gives a head as it is read, and what it gave."""


@dataclass(frozen=True, slots=True)
class Carried:
    """Where the relation leads.

    Attributes:
        relation: The relation at the end of the way; past a nonlinearity, that of its argument.
        logits: The relation u = Φ Wᵀ + b just before the first nonlinearity.
        outputs: u, as the operations give it.
        tail: The operations from u to the end of the way.
        stem: Names the way to u: equal for results of the same u.
    """

    relation: Relation
    logits: Relation
    outputs: Tensor
    tail: tuple[Hop, ...]
    stem: Hashable

    @property
    def link(self) -> str:
        """What leads from u to f: `identity`, one name, or several joined by ` then `."""
        return " then ".join(self.relation.links) or "identity"


def carry(path: Path, read: Reading) -> Carried:
    """Follow the relation along a path.

    Raises:
        JobError: `nonlinear_pool` if positions are pooled after a nonlinearity; `multiple_heads` if
            what is joined is not one linear layer; `no_linear_head` if an operation breaks the
            relation in another way.
    """
    if isinstance(path.origin, Join):
        carried = _join(path.origin, _branches(path.origin, read))
    else:
        head, product = read(path.origin)
        relation = Relation.of(head)
        carried = Carried(relation, relation, product, (), path.origin.index)
    for hop in path.hops:
        carried = _take(carried, hop)
    return carried


def follow(relation: Relation, hops: Sequence[Hop]) -> Relation:
    """Follow a relation along further hops.

    Raises:
        JobError: As `carry`.
    """
    for hop in hops:
        relation = _step(relation, hop)
    return relation


def _take(carried: Carried, hop: Hop) -> Carried:
    relation = _step(carried.relation, hop)
    if relation.links:
        return replace(carried, relation=relation, tail=(*carried.tail, hop))
    stem = (carried.stem, hop.step.index, hop.output)
    return Carried(relation, relation, hop.replay(carried.outputs), (), stem)


def _step(relation: Relation, hop: Hop) -> Relation:
    name = hop.step.name
    if name in HEADS:
        return compose(relation, hop)
    if keeps_values(hop):
        return reshape(relation, hop)
    if relation.links:
        link = " then ".join(relation.links)
        if name in POOLING:
            RULES[name](relation, hop)  # refuses a reduction over classes as what it is
            raise refuse(
                Refusal.NONLINEAR_POOL,
                f"{name} (operation {hop.step.index + 1}) pools after the nonlinearity {link}, so "
                "the output is not linear in any pooled feature.",
                operation=name,
            )
        function = name.removeprefix("aten::").removesuffix("_")
        if name in CHOOSING:
            chosen = RULES[name](relation, hop)
            if chosen.features is not relation.features:
                raise not_followed(hop, f"picks positions of the outputs after {link}")
            return linked(chosen, function)
        if name in AFFINE:
            return linked(relation, function)
    return RULES[name](relation, hop)


def _branches(join: Join, read: Reading) -> list[Carried]:
    try:
        return [carry(branch, read) for branch in join.branches]
    except JobError as error:
        raise not_one_layer(join.step, len(join.branches)) from error


def _join(join: Join, branches: list[Carried]) -> Carried:
    logits = JOINING[join.step.name]([branch.logits for branch in branches], join)
    outputs = join.replay([branch.outputs for branch in branches])
    stem = (join.step.name, logits.class_axis, *(branch.stem for branch in branches))
    joined = Carried(logits, logits, outputs, (), stem)
    if not any(branch.tail for branch in branches):
        return joined
    if any(branch.relation.links != branches[0].relation.links for branch in branches):
        raise not_one_layer(join.step, len(branches), "other functions follow each of them")
    if join.step.name in ADDING:
        raise not_one_layer(join.step, len(branches), "it adds what follows a nonlinearity")
    for hop in branches[0].tail:
        again = redone(hop, replay(joined.tail, outputs), branches[0].logits, logits)
        if again is None:
            reason = f"each of them is {branches[0].link} of a layer"
            raise not_one_layer(join.step, len(branches), reason)
        joined = _take(joined, again)
    return joined

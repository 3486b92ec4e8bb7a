"""Carrying z = Φ Wᵀ + b from the heads to the output, by the table of rules."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from torch import Tensor

from workers.errors import JobError
from workers.extraction.heads import HEADS, Head
from workers.extraction.operations import Step
from workers.extraction.path import Hop, Join, Path
from workers.extraction.refusals import Refusal, refuse
from workers.extraction.relation import Relation, not_followed
from workers.extraction.rules import AFFINE, CHOOSING, JOINING, POOLING, RULES
from workers.extraction.rules.composing import compose
from workers.extraction.rules.joining import not_one_layer
from workers.extraction.rules.links import OVER_CLASSES, linked
from workers.extraction.rules.positions import reduces_nothing, reshape, takes_all

Reading = Callable[[Step], tuple[Head, Tensor]]
"""Gives a head as it is read, and what it gave."""


@dataclass(frozen=True, slots=True)
class Carried:
    """Where the relation leads.

    Attributes:
        relation: The relation at the end of the way; past a nonlinearity, that of its argument.
        logits: The relation u = Φ Wᵀ + b just before the first nonlinearity.
        outputs: u, as the operations give it.
        value: What they give at the end of the way.
        stem: Names the way to u: equal for results of the same u.
    """

    relation: Relation
    logits: Relation
    outputs: Tensor
    value: Tensor
    stem: Hashable

    @property
    def link(self) -> str:
        """What leads from u to f: `identity`, one name, or several joined by ` then `."""
        return " then ".join(self.relation.links) or "identity"


def carry(path: Path, read: Reading) -> Carried:
    """Follows the relation along a path.

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
        carried = Carried(relation, relation, product, product, path.origin.index)
    for hop in path.hops:
        carried = _follow(carried, hop)
    return carried


def _follow(carried: Carried, hop: Hop) -> Carried:
    relation, value = _step(carried.relation, hop), hop.replay(carried.value)
    if relation.links:
        return Carried(relation, carried.logits, carried.outputs, value, carried.stem)
    return Carried(relation, relation, value, value, (carried.stem, hop.step.index, hop.output))


def _step(relation: Relation, hop: Hop) -> Relation:
    name = hop.step.name
    if name in HEADS:
        return compose(relation, hop)
    if reduces_nothing(hop) or takes_all(hop):
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
        if name in CHOOSING:
            raise not_followed(hop, f"picks a part of the outputs after {link}")
        if name in AFFINE:
            return linked(relation, name.removeprefix("aten::").removesuffix("_"))
    return RULES[name](relation, hop)


def _branches(join: Join, read: Reading) -> list[Carried]:
    try:
        return [carry(branch, read) for branch in join.branches]
    except JobError as error:
        raise not_one_layer(join.step, len(join.branches)) from error


def _join(join: Join, branches: list[Carried]) -> Carried:
    logits = JOINING[join.step.name]([branch.logits for branch in branches], join)
    stem = (join.step.name, logits.class_axis, *(branch.stem for branch in branches))
    value = join.replay([branch.value for branch in branches])
    links = branches[0].relation.links
    if not any(branch.relation.links for branch in branches):
        return Carried(logits, logits, value, value, stem)
    _check_links(join, branches, logits)
    outputs = join.replay([branch.outputs for branch in branches])
    relation = linked(logits, *links)
    return Carried(relation, logits, outputs, value, stem)


def _check_links(join: Join, branches: list[Carried], logits: Relation) -> None:
    """Whether joining u and then linking it is the same as what was done: linking, then joining."""
    count = len(branches)
    links = branches[0].relation.links
    if any(branch.relation.links != links for branch in branches):
        raise not_one_layer(join.step, count, "other functions follow each of them")
    if any(branch.relation.shape != branch.logits.shape for branch in branches):
        raise not_one_layer(join.step, count, "their axes are changed after a nonlinearity")
    more = logits.outputs > branches[0].logits.outputs
    if join.step.argument("alpha") is not None or (
        more and set(links) & set(OVER_CLASSES.values())
    ):
        raise not_one_layer(join.step, count, f"each is the {' then '.join(links)} of a layer")

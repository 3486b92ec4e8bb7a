"""Carrying z = Φ Wᵀ + b from the head to the output, by the table of rules."""

from collections.abc import Sequence
from dataclasses import dataclass

from workers.extraction.heads import Head
from workers.extraction.path import Hop
from workers.extraction.refusals import Refusal, refuse
from workers.extraction.relation import Relation, not_followed
from workers.extraction.rules import AFFINE, CHOOSING, POOLING, RULES
from workers.extraction.rules.links import linked


@dataclass(frozen=True, slots=True)
class Carried:
    """Where the relation leads.

    Attributes:
        logits: The relation u = Φ Wᵀ + b just before the first nonlinearity.
        depth: How many hops lead to u; the rest is the link.
        link: The function f = link(u): `identity`, one name, or several joined by ` then `.
    """

    logits: Relation
    depth: int
    link: str


def carry(head: Head, hops: Sequence[Hop]) -> Carried:
    """Follows the relation along the hops.

    Raises:
        JobError: `nonlinear_pool` if positions are pooled after a nonlinearity; `no_linear_head`
            if a hop breaks the relation in another way.
    """
    relation = Relation.of(head)
    logits, depth = relation, 0
    for hop in hops:
        relation = _step(relation, hop)
        if not relation.links:
            logits, depth = relation, depth + 1
    return Carried(logits, depth, " then ".join(relation.links) or "identity")


def follow(relation: Relation, hops: Sequence[Hop]) -> Relation:
    """Follows a relation along further hops.

    Raises:
        JobError: As `carry`.
    """
    for hop in hops:
        relation = _step(relation, hop)
    return relation


def _step(relation: Relation, hop: Hop) -> Relation:
    name = hop.step.name
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

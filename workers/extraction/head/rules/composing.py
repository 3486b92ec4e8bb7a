"""The rule for a linear layer that follows another one with no nonlinearity between them."""

from dataclasses import replace

import torch

from workers.extraction.head.kinds import HEADS, parse_head
from workers.extraction.head.rules.path import Hop
from workers.extraction.head.rules.relation import Relation, not_followed


def compose(relation: Relation, hop: Hop) -> Relation:
    """W of both layers is the product of theirs, as in the update B A of an adapter."""
    if relation.links:
        raise not_followed(hop, f"is a layer after {' then '.join(relation.links)}")
    factors = HEADS[hop.step.name].factors(hop.step)
    operand = next(k for k, factor in enumerate(factors) if factor is hop.source)
    head = parse_head(hop.step, operand, hop.source)
    # The layer must sum over the outputs of the one before, and leave positions where they are.
    if head.features is not hop.source or relation.class_axis != len(relation.shape) - 1:
        raise not_followed(hop, "mixes positions")
    weight, inner = head.weight.detach().double(), relation.bias()
    terms = [] if head.bias is None else [head.bias.detach().double()]
    if inner is not None:
        terms.append(weight @ inner)
    return replace(
        relation,
        matrix=weight @ relation.weight(),
        shape=head.shape,
        class_axis=head.class_axis,
        classes=None,
        scale=torch.ones(1, dtype=torch.float64),
        shift=sum(terms[1:], terms[0]) if terms else None,
    )

"""Doing to joined outputs what the model did to each part of them before it joined them."""

from dataclasses import replace

from torch import Tensor

from workers.extraction.head.kinds import along_classes
from workers.extraction.head.rules.affine import AFFINE
from workers.extraction.head.rules.links import ELEMENTWISE, OVER_CLASSES
from workers.extraction.head.rules.path import Hop
from workers.extraction.head.rules.positions import KEEPING
from workers.extraction.head.rules.relation import Relation
from workers.extraction.trace.operations import tensors_in

_ROW_BY_ROW = AFFINE.keys() | ELEMENTWISE.keys() | OVER_CLASSES.keys() | KEEPING


def redone(hop: Hop, value: Tensor, part: Relation, whole: Relation) -> Hop | None:
    """An operation after u on one part, done to all parts together.

    Args:
        hop: The operation.
        value: What it is to be done to.
        part: The relation of the part at u.
        whole: That of all parts at u.

    Returns:
        What was done; `None` if it is not one of each row by itself, the same for all rows.
    """
    step, over_classes = hop.step, hop.step.name in OVER_CLASSES
    if step.name not in _ROW_BY_ROW or not hop.source.shape == hop.result.shape == part.shape:
        return None
    if over_classes and whole.outputs != part.outputs:
        return None
    in_place = value.dim() == len(part.shape) and whole.class_axis == part.class_axis
    for other in step.tensors():
        by_class = along_classes(other, part.shape, part.class_axis) is not None
        fits = by_class and in_place and whole.outputs == part.outputs
        if other is not hop.source and other.numel() > 1 and not fits:
            return None
    given = value.clone() if step.operation.writes else value

    def swap(name: str, argument: object) -> object:
        if argument is hop.source:
            return given
        return whole.class_axis if over_classes and name == "dim" else argument

    args = tuple(map(swap, step.operation.arguments, step.args))
    kwargs = {name: swap(name, argument) for name, argument in step.kwargs.items()}
    outputs = tuple(tensors_in((step.func(*args, **kwargs),)))
    return Hop(replace(step, args=args, kwargs=kwargs, outputs=outputs), given, hop.output)

"""What each operation between the head and the output does to the relation z = Φ Wᵀ + b."""

from collections.abc import Mapping

from workers.extraction.head.rules.affine import AFFINE
from workers.extraction.head.rules.indexing import CHOOSING
from workers.extraction.head.rules.joining import JOINING
from workers.extraction.head.rules.links import ELEMENTWISE, OVER_CLASSES, elementwise, over_classes
from workers.extraction.head.rules.positions import HARMLESS, POOLING, Rule

__all__ = ["AFFINE", "CHOOSING", "JOINING", "POOLING", "RULES"]

RULES: Mapping[str, Rule] = {
    **HARMLESS,
    **POOLING,
    **CHOOSING,
    **AFFINE,
    **dict.fromkeys(OVER_CLASSES, over_classes),
    **dict.fromkeys(ELEMENTWISE, elementwise),
}
"""Every operation that may stand between the head and the output."""

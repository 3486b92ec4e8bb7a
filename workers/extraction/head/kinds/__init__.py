"""Reading a linear operation as z = Φ Wᵀ + b.

`HEADS` is the table of the operations that can be a head: which tensors may carry Φ, and the parser
that reads how weight, bias and result are laid out.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from workers.extraction.head.kinds import convolutions, products, quantized
from workers.extraction.head.kinds.head import Head, HeadRule, along_classes, not_a_head
from workers.extraction.refusals import Refusal, refuse
from workers.extraction.trace.operations import Step

__all__ = ["HEADS", "Head", "along_classes", "find_operand", "not_a_head", "parse_head"]

HEADS: Mapping[str, HeadRule] = {**products.RULES, **convolutions.RULES, **quantized.RULES}


def find_operand(step: Step, depends: Callable[[Tensor], bool]) -> int:
    """Find which factor of a head carries Φ: the one that depends on the input.

    Returns:
        Its position among `HEADS[step.name].factors(step)`.

    Raises:
        JobError: `no_linear_head` unless exactly one factor depends on the input;
            `multiple_heads` if the added term does, too.
    """
    rule = HEADS[step.name]
    dependent = [k for k, factor in enumerate(rule.factors(step)) if depends(factor)]
    if len(dependent) != 1:
        which = "both of its factors depend" if dependent else "none of its factors depends"
        raise not_a_head(step, f"{which} on the input")
    added = None if rule.added is None else step.argument(rule.added)
    if isinstance(added, Tensor) and depends(added):
        raise refuse(
            Refusal.MULTIPLE_HEADS,
            f"{step.name} (operation {step.index + 1}) adds its product to another tensor that "
            "depends on the input, so the output is not that of one linear layer.",
            operation=step.name,
        )
    return dependent[0]


def parse_head(step: Step, operand: int, features: Tensor) -> Head:
    """Read a head.

    Args:
        step: The linear operation.
        operand: Which factor carries Φ, from `find_operand`.
        features: That factor, or a copy of it.

    Raises:
        JobError: `no_linear_head` if it is none of the spellings of a plain linear layer.
    """
    return HEADS[step.name].parse(step, operand, features)

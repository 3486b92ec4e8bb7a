"""The relation z = Φ Wᵀ + b, as it stands part of the way from the head to the output."""

from dataclasses import dataclass

import torch
from torch import Tensor

from workers.extraction.head.kinds import Head
from workers.extraction.head.rules.path import Hop
from workers.extraction.refusals import Refusal, refuse
from workers.protocol.errors import JobError


@dataclass(frozen=True, slots=True)
class Relation:
    """A tensor that is still affine in features: z = Φ (scale · W[classes])ᵀ + shift.

    Attributes:
        features: Φ, [positions..., p]: the axes of z without its class axis, in the same order.
        matrix: W as the head has it, [outputs of the head, p].
        shape: The shape of z.
        class_axis: The axis of z with the outputs; `None` once it is gone (C = 1).
        classes: Rows of W that are left, in order; `None` for all.
        scale: Factor per class, float64, 1 or C values.
        shift: Term per class, float64, 1 or C values; `None` while there is no bias.
        links: Nonlinearities already passed; the relation then describes their argument.
    """

    features: Tensor
    matrix: Tensor
    shape: tuple[int, ...]
    class_axis: int | None
    classes: Tensor | None
    scale: Tensor
    shift: Tensor | None
    links: tuple[str, ...] = ()

    @classmethod
    def of(cls, head: Head) -> "Relation":
        """The relation at the head itself."""
        one = torch.ones(1, dtype=torch.float64)
        bias = None if head.bias is None else head.bias.detach().double()
        matrix = head.weight.detach()
        return cls(head.features, matrix, head.shape, head.class_axis, None, one, bias)

    def feature_axis(self, axis: int) -> int:
        """Where an axis of z other than the class axis is in the features."""
        before = self.class_axis is None or axis < self.class_axis
        return axis if before else axis - 1

    @property
    def outputs(self) -> int:
        """C, the number of rows of W."""
        return len(self.matrix if self.classes is None else self.classes)

    def weight(self) -> Tensor:
        """W with all that followed folded in, `(C, p)` float64."""
        weight = self.matrix.double()
        if self.classes is not None:
            weight = weight[self.classes]
        return weight * self.scale[:, None]

    def bias(self) -> Tensor | None:
        """The term b with all that followed folded in, `(C,)` float64."""
        if self.shift is None:
            return None
        return self.shift.expand(self.outputs).clone()


def not_followed(hop: Hop, reason: str) -> JobError:
    """The refusal of an operation through which Φ cannot be carried."""
    step = hop.step
    return refuse(
        Refusal.NO_LINEAR_HEAD,
        f"Between the last linear layer and the output, {step.name} (operation {step.index + 1}) "
        f"{reason}; Φ cannot be followed through it.",
        stopped_at=step.name,
    )

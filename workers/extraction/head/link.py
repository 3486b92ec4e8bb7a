"""The model's answer f = link(u): laid out in rows, and computed again from other outputs u."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workers.extraction.head.carry import follow
from workers.extraction.head.rules import RULES
from workers.extraction.head.rules.path import Hop, replay
from workers.extraction.head.rules.positions import permute
from workers.extraction.head.rules.relation import Relation


@dataclass(frozen=True, slots=True)
class Link:
    """What one batch showed of f = link(u).

    Attributes:
        hops: The operations from u to the answer; none where f is u.
        outputs: u, as the first of them got it.
        class_axis: The axis of u with the outputs; `None` if it has none (C = 1).
        answer_axis: The axis of the answer with the outputs; likewise.
        answer_shape: Sizes of the answer's other axes, in order.
        chosen: Which outputs the answer's are of, where operations after u pick some; `None`: all.
        places: Which row of u each row of the answer is of, where operations after u moved the
            positions; `None` where rows are in the same order.
        order: The rows of u in the answer's order, but all positions of a sample together; `None`
            if that is the order they are in.
    """

    hops: tuple[Hop, ...]
    outputs: Tensor
    class_axis: int | None
    answer_axis: int | None
    answer_shape: tuple[int, ...]
    chosen: Tensor | None
    places: Tensor | None
    order: Tensor | None

    @classmethod
    def following(
        cls, relation: Relation, outputs: Tensor, hops: Sequence[Hop], samples: int
    ) -> "Link":
        """Read how the answer follows from u.

        Args:
            relation: That of u, with one row of Φ for each row of u, samples first.
            outputs: u.
            hops: The operations after it.
            samples: How many samples the batch has.
        """
        # The rules move Φ along; a single feature shows as well where its rows go.
        every = torch.arange(relation.outputs)
        thin = replace(relation, features=relation.features[..., :1], classes=every)
        answered = follow(thin, hops)
        chosen = None if answered.classes is every else answered.classes
        answer_axis, answer_shape = answered.class_axis, tuple(answered.features.shape[:-1])
        places = _places(relation, outputs, hops, answer_axis, samples)
        order = None if places is None else _by_sample(places, samples)
        return cls(
            hops=tuple(hops),
            outputs=outputs,
            class_axis=relation.class_axis,
            answer_axis=answer_axis,
            answer_shape=answer_shape,
            chosen=chosen,
            places=places,
            order=order,
        )

    @property
    def columns(self) -> int:
        """How many outputs the answer has."""
        if self.chosen is not None:
            return len(self.chosen)
        return 1 if self.class_axis is None else self.outputs.shape[self.class_axis]

    def rows_of(self, answer: Tensor) -> Tensor:
        """Lay out the answer to the batch: f, `(n · positions, C)`, samples in order."""
        answer = answer.dequantize() if answer.is_quantized else answer
        rows = self._in_place(_rows(answer, self.answer_axis))
        return rows if self.order is None else rows[self.order]

    @torch.inference_mode()
    def __call__(self, outputs: Tensor) -> Tensor:
        """Do to other rows of u what the model did to those of the batch.

        Where shapes may be written into the operations, they run on as many rows at a time as the
        batch had.

        Args:
            outputs: Rows of u, `(m, C)`, of any floating dtype, on any device.

        Returns:
            f, [m, C or as many as are chosen], in the dtype that the model gives it in, on the CPU.
        """
        if not self.hops or not len(outputs):
            return outputs.cpu()
        outputs = outputs.to(self.outputs.device, self.outputs.dtype)
        if self._takes_any_number():
            return replay(self.hops, outputs).cpu()
        size = self.outputs.numel() // outputs.shape[1]
        found = []
        for start in range(0, len(outputs), size):
            block = outputs[start : start + size]
            filled = torch.cat([block, block[-1:].expand(size - len(block), -1)])
            answer = replay(self.hops, _like(self.outputs, filled, self.class_axis))
            found.append(self._in_place(_rows(answer, self.answer_axis))[: len(block)].cpu())
        return torch.cat(found)

    def is_rowwise(self) -> bool:
        """Return whether each row of f follows from its own row of u alone, wherever it stands."""
        rows = _rows(self.outputs, self.class_axis)
        found, turned = self(rows).double(), self(rows.flip(0)).flip(0).double()
        return torch.allclose(turned, found, rtol=1e-3, atol=1e-3, equal_nan=True)

    def _in_place(self, rows: Tensor) -> Tensor:
        """Return rows of the answer in the order of those of u."""
        return rows if self.places is None else rows[self.places.argsort()]

    def _takes_any_number(self) -> bool:
        """Return whether nothing in the operations can depend on how many rows there are."""
        return (
            self.outputs.dim() == 2  # noqa: PLR2004 - rows and classes
            and self.class_axis == self.answer_axis == 1
            and not any(map(_moves, self.hops))
            and all(
                t.dim() <= 1 for hop in self.hops for t in hop.step.tensors() if t is not hop.source
            )
        )


def _rows(tensor: Tensor, class_axis: int | None) -> Tensor:
    """Return a tensor with outputs along one axis as rows, `(positions, C)`."""
    if class_axis is None:
        return tensor.reshape(-1, 1)
    return tensor.movedim(class_axis, -1).reshape(-1, tensor.shape[class_axis])


def _like(outputs: Tensor, rows: Tensor, class_axis: int | None) -> Tensor:
    """Return rows, `(positions, C)`, in the shape and memory layout of u."""
    shaped = torch.empty_like(outputs, dtype=rows.dtype)
    if class_axis is None:
        return shaped.copy_(rows.reshape(shaped.shape))
    moved = shaped.movedim(class_axis, -1)
    moved.copy_(rows.reshape(moved.shape))
    return shaped


def _moves(hop: Hop) -> bool:
    """Return whether an operation regroups or reorders axes."""
    return hop.source.shape != hop.result.shape or RULES[hop.step.name] is permute


def _places(
    relation: Relation,
    outputs: Tensor,
    hops: Sequence[Hop],
    answer_axis: int | None,
    samples: int,
) -> Tensor | None:
    """Return which row of u each row of the answer is of; `None` if they are in the same order."""
    moving = [hop for hop in hops if _moves(hop)]
    rows = math.prod(relation.features.shape[:-1])
    if rows == samples or not moving:
        return None
    classes = outputs.numel() // rows
    # Floating-point numbers, since not every operation takes others; these are exact.
    numbers = torch.arange(rows, dtype=torch.float64, device=outputs.device)
    repeated = numbers[:, None].expand(rows, classes)
    moved = replay(moving, _like(outputs, repeated, relation.class_axis))
    places = _rows(moved, answer_axis)[:, 0].long()
    in_place = torch.equal(places, numbers.long())
    return None if in_place else places


def _by_sample(places: Tensor, samples: int) -> Tensor | None:
    """Return the same rows with all of a sample together, in the order of the answer."""
    order = places[torch.argsort(places // (len(places) // samples), stable=True)]
    in_place = torch.equal(order, torch.arange(len(order), device=order.device))
    return None if in_place else order

"""Observing Φ and u of one batch while the model runs, and checking that they give its answer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from workers.extraction.head.carry import carry
from workers.extraction.head.choosing import DeclaredFeatures
from workers.extraction.head.kinds import Head, parse_head
from workers.extraction.head.link import Link
from workers.extraction.head.rules.path import Path, replay
from workers.extraction.head.rules.relation import Relation
from workers.extraction.head.structure import Structure
from workers.extraction.head.tap import HeadTap
from workers.extraction.head.walk import walk_back
from workers.extraction.refusals import Refusal, refuse
from workers.extraction.trace.consistency import coarsest, finite, same, supported, tolerance
from workers.extraction.trace.execution import Batch, Output, Watch, copied, describe_batch, execute
from workers.extraction.trace.operations import Step
from workers.protocol.errors import JobError

_ELEMENTS = 2**28
"""Largest number of values in a copied tensor: 1 GiB in float32."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What was observed while the model ran on one batch.

    Attributes:
        features: Φ, `(n · positions, p)`, in the model's dtype; all positions of a sample together.
        logits: u, `(n · positions, C)`, in the model's dtype.
        positions: Rows per sample.
        position_shape: Lengths of the axes of the answer that positions run along, such as height
            and width; axes of length 1 are left out.
        answer: What the model returned; u itself if the owner chose a head and no result is known
            to follow from it.
        precision: The least precise dtype on the path from Φ to the answer.
        answers: f, one row for each row of u, `(n · positions, C)` if it is known how f follows
            from u; `None` if no result that may be the answer has one row for each row of u.
        link: How f follows from u; `None` if that is not known.
    """

    features: Tensor
    logits: Tensor
    positions: int
    position_shape: tuple[int, ...]
    answer: Tensor
    precision: torch.dtype
    answers: Tensor | None
    link: Link | None


def observe(
    model: nn.Module,
    found: Structure | DeclaredFeatures,
    batch: Batch,
    *watches: Watch,
) -> Observation:
    """Run the model on a batch and take Φ and u.

    Args:
        model: The model.
        found: Where Φ and u are.
        batch: The model's inputs.
        *watches: Dispatch modes that also see every operation of the model.

    Raises:
        JobError: As `execute`; `unsupported_model` if the run differs from the first one, or its
            answer is not explained by u; `non_finite` if Φ or u holds NaN or infinite values, or
            the answer holds NaN.
    """
    if isinstance(found, DeclaredFeatures):
        seen = _observe_declared(model, found, batch, watches)
    else:
        tap, outputs = _run_tapped(model, found, batch, watches)
        seen = _explain(tap, outputs, found, len(batch[0]))
    if not (finite(seen.logits) and finite(seen.features)):
        raise _non_finite(seen, batch)
    return seen


def _run_tapped(
    model: nn.Module, structure: Structure, batch: Batch, watches: Sequence[Watch]
) -> tuple[HeadTap, list[Output]]:
    tap = HeadTap(structure.sites, _ELEMENTS)
    outputs = execute(model, copied(batch) if structure.changes_input else batch, tap, *watches)
    if tap.too_large:
        raise _too_large()
    if not tap.tapped:
        raise _changed("its last linear layer did not run")
    return tap, outputs


def _explain(
    tap: HeadTap, outputs: Sequence[Output], structure: Structure, samples: int
) -> Observation:
    """Read Φ and u from a tapped run, and check that they give the answer."""
    answer = None if structure.output is None else _find(outputs, structure.output)
    path = _path(tap, structure, answer)
    precisions: list[torch.dtype] = []

    def read(step: Step) -> tuple[Head, Tensor]:
        tapped = tap.tapped[step.index]
        head = parse_head(step, tapped.operand, tapped.source)
        precisions.extend(
            [head.precision] if head.precision else [tapped.source.dtype, tapped.product.dtype]
        )
        return head, tapped.product

    carried = carry(path, read)
    logits = carried.outputs.dequantize() if carried.outputs.is_quantized else carried.outputs
    if not supported(logits.dtype):
        raise _changed(f"its outputs are of dtype {logits.dtype}")
    # A cast on the path rounds as much as a layer in that precision.
    passed = [output.dtype for step in path.steps() for output in step.outputs]
    precision = coarsest(*filter(supported, [*precisions, *passed]))
    relation = carried.logits
    features, rows, positions = _rows(relation, logits, samples)
    if answer is None:
        shape = _position_shape(relation.features.shape[:-1], samples)
        answers = _unlinked(outputs, structure.answer, relation, logits, samples)
        return Observation(features, rows, positions, shape, logits, precision, answers, None)
    link = Link.following(relation, logits, carried.tail, samples)
    if finite(rows):
        _check_answer(replay(link.hops, logits), answer, precision)
    if link.order is not None:
        features, rows = features[link.order], rows[link.order]
    answers = link.rows_of(answer) if link.hops else rows
    shape = _position_shape(link.answer_shape, samples)
    return Observation(features, rows, positions, shape, answer, precision, answers, link)


def _unlinked(
    outputs: Sequence[Output],
    label: str | None,
    relation: Relation,
    logits: Tensor,
    samples: int,
) -> Tensor | None:
    """Return the answer in rows, if it is not known how it follows from u.

    Args:
        outputs: The model's results.
        label: Label of the result that is the answer; `None` if several results may be.
        relation: Relation of u to Φ.
        logits: u, in the shape that the layer returns.
        samples: Number of samples.

    Returns:
        One row for each row of u; `None` if the answer has no such rows.

    Raises:
        JobError: `unsupported_model` or `non_finite` if the answer is missing or contains NaN.
    """
    if label is None:
        return None
    answer = _find(outputs, label)
    answer = answer.dequantize() if answer.is_quantized else answer
    if torch.isnan(answer).any():
        raise refuse(Refusal.NON_FINITE, "The model's answer contains NaN.")
    if answer.shape == logits.shape:
        return _in_rows(answer, relation.class_axis)
    # One output may come as `(n,)`, a pooled map as `(n, C, 1, 1)`.
    is_row = answer.shape[:1] == (samples,) and math.prod(answer.shape[2:]) == 1
    rows = math.prod(relation.features.shape[:-1])
    return answer.reshape(samples, -1) if is_row and rows == samples else None


def _path(tap: HeadTap, structure: Structure, answer: Tensor | None) -> Path:
    """Return the path from the head to the answer, which must be that of the recorded run."""
    if answer is None:
        if len(tap.tapped) != 1:
            raise _changed(f"the chosen layer ran {len(tap.tapped)} times")
        return Path(tap.steps[next(iter(tap.tapped))], ())
    path = walk_back(tap, answer, ends=lambda step: step.index in tap.tapped)
    if path.names != structure.names:
        ran, expected = " → ".join(path.names), " → ".join(structure.names)
        raise _changed(f"it ran {ran} instead of {expected}")
    return path


def _observe_declared(
    model: nn.Module,
    declared: DeclaredFeatures,
    batch: Batch,
    watches: Sequence[Watch],
) -> Observation:
    """Take Φ from the declared result, which must equal the input of the head if one is known."""
    samples = len(batch[0])
    if declared.structure is None:
        outputs = execute(model, copied(batch), *watches)
        features = _one_row_each(outputs, declared.features, samples)
        if declared.output is None:
            none = features[:, :0]
            returned = _find(outputs, declared.features)
            return Observation(features, none, 1, (), returned, features.dtype, none, None)
        answer = _one_row_each(outputs, declared.output, samples)
        precision = coarsest(features.dtype, answer.dtype)
        returned = _find(outputs, declared.output)
        return Observation(features, answer, 1, (), returned, precision, answer, None)
    tap, outputs = _run_tapped(model, declared.structure, batch, watches)
    seen = _explain(tap, outputs, declared.structure, samples)
    features = _one_row_each(outputs, declared.features, samples)
    if not same(seen.features, features, tolerance(seen.precision)):
        raise _changed(f"the result {declared.features!r} is not what its last linear layer got")
    return seen


def _one_row_each(outputs: Sequence[Output], label: str, samples: int) -> Tensor:
    tensor = _find(outputs, label)
    # One output may come as `(n,)`, a pooled map as `(n, p, 1, 1)`.
    if not tensor.dim() or len(tensor) != samples or math.prod(tensor.shape[2:]) != 1:
        raise refuse(
            Refusal.BAD_OUTPUT,
            f"The result {label!r} has shape {list(tensor.shape)} for {samples} samples; expected "
            f"one row a sample: [{samples}, …].",
            hint="Pool or pick positions in the model before it returns them.",
            shape=list(tensor.shape),
        )
    return tensor.reshape(samples, -1)


def _find(outputs: Sequence[Output], label: str) -> Tensor:
    """Return the result with this label.

    Raises:
        JobError: `unsupported_model` if the model did not return it on this batch.
    """
    for output in outputs:
        if output.label == label:
            return output.tensor
    raise _changed(f"it returned no {label!r}")


def _rows(relation: Relation, logits: Tensor, samples: int) -> tuple[Tensor, Tensor, int]:
    """Return Φ `(n · m, p)`, u `(n · m, C)` and m, the number of positions per sample."""
    axes = relation.features.shape[:-1]
    sizes = [size for size in axes if size != 1]
    if sizes[: samples != 1] != [samples] * (samples != 1):
        raise refuse(
            Refusal.BAD_OUTPUT,
            f"The last linear layer gives outputs of shape {list(relation.shape)} for {samples} "
            f"samples; expected one row per sample, [{samples}, outputs], or one per position, "
            f"[{samples}, positions, outputs].",
            hint=(
                "Save the model so that its first axis runs over the samples. A wrong input shape "
                "can spread samples over rows."
            ),
            shape=list(relation.shape),
            samples=samples,
        )
    rows = math.prod(axes)
    features = relation.features.reshape(rows, -1)
    return features, _in_rows(logits, relation.class_axis), rows // samples


def _in_rows(tensor: Tensor, class_axis: int | None) -> Tensor:
    if class_axis is None:
        return tensor.reshape(-1, 1)
    return tensor.movedim(class_axis, -1).reshape(-1, tensor.shape[class_axis])


def _position_shape(axes: Sequence[int], samples: int) -> tuple[int, ...]:
    """Return the lengths of the axes of an answer along which the positions of a sample run."""
    sizes = [size for size in axes if size != 1]
    if samples == 1:
        return tuple(sizes)
    if samples not in sizes:  # the answer has samples and positions on one axis
        return (math.prod(sizes) // samples,)
    sizes.remove(samples)
    return tuple(sizes)


def _check_answer(explained: Tensor, answer: Tensor, precision: torch.dtype) -> None:
    if same(explained, answer, tolerance(precision)):
        return
    if torch.isnan(answer).any():
        raise refuse(Refusal.NON_FINITE, "The model's answer contains NaN, its logits do not.")
    raise refuse(
        Refusal.RESIDUAL,
        "The operations seen after the last linear layer do not reproduce the model's answer: "
        "something else changes it.",
    )


def _changed(what: str) -> JobError:
    return refuse(
        Refusal.RESIDUAL,
        f"The model did not do on this batch what it did on the first one: {what}. Its outputs are "
        "not those of one linear layer for every input.",
    )


def _too_large() -> JobError:
    return refuse(
        Refusal.BAD_OUTPUT,
        f"Φ or the outputs of one batch have more than {_ELEMENTS} values, or are not stored as a "
        "plain dense tensor.",
        hint="Use a smaller batch size.",
        limit=_ELEMENTS,
    )


def _non_finite(seen: Observation, batch: Batch) -> JobError:
    good = torch.isfinite(seen.features).all(dim=1) & torch.isfinite(seen.logits).all(dim=1)
    good = good.reshape(-1, seen.positions).all(dim=1)
    bad = (~good).nonzero().flatten().tolist()
    where = "Φ" if not finite(seen.features) else "the outputs"
    inputs = [t for t in batch if t.is_floating_point()]
    cause = " The inputs themselves are not finite." if not all(map(finite, inputs)) else ""
    return refuse(
        Refusal.NON_FINITE,
        f"NaN or infinite values in {where} for {len(bad)} of {len(good)} samples of a batch of "
        f"{describe_batch(batch)}, first in row {bad[0]}.{cause}",
        samples=len(bad),
    )

"""Seeing Φ and u of one batch while the model runs, and proving that they explain its answer."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from workers.errors import JobError
from workers.extraction.carry import carry
from workers.extraction.consistency import coarsest, finite, same, supported, tolerance
from workers.extraction.execution import Batch, copied, describe_batch, execute
from workers.extraction.heads import Head, parse_head
from workers.extraction.path import replay
from workers.extraction.refusals import Refusal, refuse
from workers.extraction.relation import Relation
from workers.extraction.structure import Structure
from workers.extraction.tape import HeadTap
from workers.extraction.walk import walk_back

_ELEMENTS = 2**28
"""Values that a copied tensor may have: 1 GiB in float32."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One batch, seen.

    Attributes:
        features: Φ, [n, p], in the model's dtype.
        logits: u, [n, C], in the model's dtype.
        answer: What the model returned.
        precision: The least precise dtype between Φ and u.
    """

    features: Tensor
    logits: Tensor
    answer: Tensor
    precision: torch.dtype


def observe(
    model: nn.Module, structure: Structure, batch: Batch, *watches: TorchDispatchMode
) -> Observation:
    """Runs the model on a batch and taps its head.

    Raises:
        JobError: As `execute`; `unsupported_model` if the run differs from the first one, or its
            answer is not explained by u; `non_finite` if Φ, u or the answer holds NaN or infinite
            values.
    """
    tap = HeadTap(structure.site, _ELEMENTS)
    outputs = execute(model, copied(batch) if structure.changes_input else batch, tap, *watches)
    answer = next((o.tensor for o in outputs if o.label == structure.output), None)
    if tap.too_large:
        raise _too_large()
    if answer is None or tap.source is None or tap.product is None:
        raise _changed("its last linear layer did not run or its output is missing")
    path = walk_back(tap, answer)
    if path.names != structure.names or path.head.index != 0:
        raise _changed(f"it ran {' → '.join(path.names)} instead of {' → '.join(structure.names)}")
    head = parse_head(path.head, structure.site.operand, tap.source)
    relation = carry(head, path.hops[: structure.depth]).logits if structure.depth else head
    logits = replay(path.hops[: structure.depth], tap.product)
    if not supported(logits.dtype):
        raise _changed(f"its outputs are of dtype {logits.dtype}")
    precision = coarsest(tap.source, tap.product, logits)
    features, logits_by_row = _rows(relation, logits, len(batch[0]))
    if not (finite(logits_by_row) and finite(features)):
        raise _non_finite(features, logits_by_row, batch)
    _check_answer(replay(path.hops[structure.depth :], logits), answer, precision)
    return Observation(features, logits_by_row, answer, precision)


def _rows(relation: Relation | Head, logits: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Turns the tensors at u into Φ [n, p] and u [n, C]: one position is left for each sample."""
    positions = relation.features.shape[:-1]
    if [size for size in positions if size != 1] != [samples] * (samples != 1):
        raise refuse(
            Refusal.BAD_OUTPUT,
            f"The last linear layer gives outputs of shape {list(relation.shape)} for {samples} "
            f"samples; expected one row per sample: [{samples}, outputs].",
            hint=(
                "Save the model so that it gives one row of outputs per sample. Outputs per token "
                "or per pixel must be pooled or picked in the model; a wrong input shape can also "
                "spread samples over rows."
            ),
            shape=list(relation.shape),
            samples=samples,
        )
    features = relation.features.reshape(samples, -1)
    if relation.class_axis is not None:
        logits = logits.movedim(relation.class_axis, -1)
    return features, logits.reshape(samples, -1)


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


def _non_finite(features: Tensor, logits: Tensor, batch: Batch) -> JobError:
    good = torch.isfinite(features).all(dim=1) & torch.isfinite(logits).all(dim=1)
    bad = (~good).nonzero().flatten().tolist()
    where = "Φ" if not finite(features) else "the outputs"
    inputs = [t for t in batch if t.is_floating_point()]
    cause = " The inputs themselves are not finite." if not all(map(finite, inputs)) else ""
    return refuse(
        Refusal.NON_FINITE,
        f"NaN or infinite values in {where} for {len(bad)} of {len(logits)} samples of a batch of "
        f"{describe_batch(batch)}, first in row {bad[0]}.{cause}",
        samples=len(bad),
    )

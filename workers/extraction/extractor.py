"""From a model and a first batch to an extractor that gives Φ and u for every batch.

`discover` records one run, walks back from the output to the head and fixes the relation
u = Φ Wᵀ + b, f = link(u). `Extractor.run` then runs the model unchanged and reads Φ and u at the
head. Every batch is checked twice: Φ Wᵀ + b must equal the outputs u that the model computed, and
the operations after u must give the answer that the model returned.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from service.contract.options import FeatureMapChoice
from workers.extraction.feature_map import FeatureMap, describe
from workers.extraction.fit.mismatch import could_not_run, explaining
from workers.extraction.fit.recording import batch_limits, record
from workers.extraction.fit.value_range import check_value_range
from workers.extraction.head.advising import advised
from workers.extraction.head.choosing import DeclaredFeatures, choose
from workers.extraction.head.structure import (
    Names,
    Structure,
    count_parameters,
)
from workers.extraction.independence import LaterBatches, check_repeatable, check_samples
from workers.extraction.observation import Observation, observe
from workers.extraction.refusals import Refusal, refuse
from workers.extraction.trace.consistency import residual, tolerance, working_dtype
from workers.extraction.trace.execution import Batch, Watch, beside, resized
from workers.extraction.trace.randomness import check_deterministic
from workers.extraction.trace.state import Buffers, stateful
from workers.protocol.errors import JobError

_DISCOVERY_ROWS = 16
"""Samples in the recorded run: enough to tell rows apart, few enough to hold every activation."""


@dataclass(frozen=True, eq=False, slots=True)
class Extracted:
    """Φ, u and f of one batch, in the model's dtype, on the extractor's `destination`.

    They are inference tensors, which must not be changed in place. Nothing else refers to them.

    Attributes:
        phi: Φ, `(n · positions, p)`, all positions of a sample together.
        outputs: u, `(n · positions, C)`: before the link.
        answers: f, the model's answer, with one row for each row of u: C columns, or fewer where
            operations after u pick some; any number where it is not known how f follows from u.
            `None` if the answer does not have one row for each row of u.
        positions: Rows per sample.
    """

    phi: Tensor
    outputs: Tensor
    answers: Tensor | None
    positions: int = 1


class Extractor:
    """Source of Φ and u for batch after batch; built by `discover`.

    Attributes:
        feature_map: What was found in the model; running a batch may add a warning.
        heads: Operations that run the last linear layer: one, unless several layers are treated as
            one; empty if none is known.
        baked_rows: Number of samples in every run, if the archive does not take any number of them.
        link: How the model's answer f follows from u, as a function of rows of u; `None` if that
            is not known.
        unlinked: The model's answer to the first batch, one row for each row of u, if it is not
            known how it follows from u; `None` if that is known, or if no result has such rows.
        residual: The largest consistency residual of all batches so far; `None` if there is no W to
            compute it with.
        sample_bytes: Bytes per sample that the results of all operations took in the first run.
        destination: Device on which batches are returned: the CPU, unless another is set here.
        fallback: Number of samples to run at a time once the model could not run a larger batch, in
            that batch and all later ones; `None`: a batch that it cannot run is refused.
    """

    def __init__(
        self,
        model: nn.Module,
        found: Structure | DeclaredFeatures,
        feature_map: FeatureMap,
        first: Observation,
        *,
        baked_rows: int | None,
        sample_bytes: int,
    ) -> None:
        self.feature_map = feature_map
        self.sample_bytes = sample_bytes
        self.destination = torch.device("cpu")
        self.fallback: int | None = None
        self._most_at_once: int | None = None
        structure = found.structure if isinstance(found, DeclaredFeatures) else found
        self.heads = () if structure is None else structure.sites
        self.baked_rows = baked_rows
        self._limits = batch_limits(model) or (1, None)
        self.link = first.link
        self.unlinked = first.answers if first.link is None else None
        self.residual: float | None = None
        self._model = model
        self._found = found
        self._later = LaterBatches(model, found, feature_map.warnings)
        self._device = first.logits.device
        dtype = working_dtype(first.precision)
        self._weight = None if feature_map.W is None else feature_map.W.to(self._device, dtype)
        self._bias = None if feature_map.b is None else feature_map.b.to(self._device, dtype)
        self._center = first.logits.to(dtype).mean(dim=0)
        self._check(first)

    def run(self, batch: Batch, *watches: Watch) -> Extracted:
        """Run the model on a batch.

        Args:
            batch: The model's inputs, n samples along the first axis of each.
            *watches: Dispatch modes that see every operation of the model, and no other operation.

        Returns:
            Φ, u and f in the model's dtype.

        Raises:
            JobError: `input_mismatch`, `out_of_memory`, `non_finite`, or `unsupported_model` if Φ
                does not explain the model's answer on this batch.
        """
        with torch.inference_mode():
            rows = len(batch[0])
            size = self._size(rows, self._most_at_once)
            try:
                return self._run_in_parts(batch, size, watches)
            except JobError as error:
                smaller = self._size(rows, self.fallback)
                if smaller >= size or not could_not_run(error):
                    raise
            # Outside the handler, because the error keeps tensors of the failed run alive.
            self._most_at_once = self.fallback
            for watch in watches:
                watch.forget()
            return self._run_in_parts(batch, smaller, watches)

    def _size(self, rows: int, most: int | None) -> int:
        """Return how many samples to run at a time, within the limits of the archive."""
        if self.baked_rows is not None:
            return self.baked_rows
        fewest, limit = self._limits
        return max(fewest, min(each for each in (rows, most, limit) if each is not None))

    def _run_in_parts(self, batch: Batch, size: int, watches: Sequence[Watch]) -> Extracted:
        parts = [
            self._run(tuple(tensor[start : start + size] for tensor in batch), size, watches)
            for start in range(0, len(batch[0]), size)
        ]
        if len(parts) == 1:
            return parts[0]
        return Extracted(
            torch.cat([part.phi for part in parts]),
            torch.cat([part.outputs for part in parts]),
            _joined_answers(parts),
            parts[0].positions,
        )

    def _run(self, batch: Batch, size: int, watches: Sequence[Watch]) -> Extracted:
        sample = tuple(tensor.to(self._device) for tensor in resized(batch, size))
        rows_tried = self.baked_rows or _DISCOVERY_ROWS
        with beside(sample), explaining(self._model, sample, rows_tried):
            seen = observe(self._model, self._found, sample, *watches)
        self._check(seen)
        if self.baked_rows is None and (more := self._later.warn(sample, seen)):
            found = self.feature_map
            self.feature_map = replace(found, warnings=(*found.warnings, *more))
        rows = len(batch[0]) * seen.positions
        return Extracted(
            seen.features[:rows].to(self.destination),
            seen.logits[:rows].to(self.destination),
            None if seen.answers is None else seen.answers[:rows].to(self.destination),
            seen.positions,
        )

    def _check(self, seen: Observation) -> None:
        if seen.positions != self.feature_map.positions:
            raise refuse(
                Refusal.BAD_OUTPUT,
                f"The model gave {seen.positions} rows a sample on this batch, "
                f"{self.feature_map.positions} on the first one; expected always the same.",
            )
        if seen.link is None and _columns(seen.answers) != _columns(self.unlinked):
            raise refuse(
                Refusal.BAD_OUTPUT,
                "The model's answer had other columns on this batch than on the first one; "
                "expected always the same.",
            )
        if self._weight is None:
            return
        value = residual(
            seen.features,
            self._weight,
            self._bias,
            seen.logits,
            center=self._center,
            precision=seen.precision,
            samples=len(seen.features) // seen.positions,
        )
        limit = tolerance(seen.precision)
        if not value <= limit:
            raise refuse(
                Refusal.RESIDUAL,
                f"Φ Wᵀ + b misses the model's outputs by {value:.1e} of their spread; at most "
                f"{limit:.0e} is accepted. The outputs do not come from these features alone.",
                residual=f"{value:.3e}",
                limit=limit,
            )
        self.residual = max(self.residual or 0.0, value)


def _joined_answers(parts: Sequence[Extracted]) -> Tensor | None:
    answers = [part.answers for part in parts if part.answers is not None]
    return torch.cat(answers) if answers else None


def _columns(answers: Tensor | None) -> int | None:
    return None if answers is None else answers.shape[1]


@torch.inference_mode()
def discover(model: nn.Module, batch: Batch, choice: FeatureMapChoice | None = None) -> Extractor:
    """Find Φ, W, b and the link of a model.

    Args:
        model: The model, in evaluation mode, as `load_model` returns it.
        batch: A first batch, on the model's device; it takes at least 2 samples to detect that
            samples influence each other.
        choice: What the model's owner says about its head.

    Returns:
        The extractor of Φ for this and every other batch.

    Raises:
        JobError: `input_mismatch` if the model cannot take the batch, `head_not_found` if its
            output does not come from a linear layer, `non_finite`, or `unsupported_model` with
            the reason in `detail.code` (`Refusal`).
    """
    with beside(batch), Buffers(model) as saved:
        sample, tape, outputs = record(model, batch, _DISCOVERY_ROWS)
        check_deterministic(tape.steps)
        names = Names.of(model)
        try:
            chosen_head = choose(tape, outputs, names, choice, len(sample[0]))
            found, first = _observe_first(model, chosen_head, sample)
        except JobError as error:
            if choice is not None and choice.names_a_layer:
                raise
            wanted = None if choice is None else choice.output
            raise advised(error, tape, outputs, names, len(sample[0]), wanted=wanted) from error
        compared = found.output
        if compared is None and isinstance(found, DeclaredFeatures):
            compared = found.features
        if compared is not None:
            check_repeatable(outputs, compared, first)
        rows = len(sample[0])
        baked_rows = rows if rows != min(_DISCOVERY_ROWS, len(batch[0])) else None
        baked_rows, warnings = check_samples(model, found, sample, first, baked_rows)
        warnings = (*warnings, *stateful(model, saved), *check_value_range(model, tape, batch))
        feature_map = describe(found, first, count_parameters(model, tape), warnings)
        return Extractor(
            model,
            found,
            feature_map,
            first,
            baked_rows=baked_rows,
            sample_bytes=tape.result_bytes() // rows,
        )


def _observe_first(
    model: nn.Module, found: Structure | DeclaredFeatures, sample: Batch
) -> tuple[Structure | DeclaredFeatures, Observation]:
    """Observe the recorded batch again, dropping a head that does not explain declared features."""
    if isinstance(found, Structure) or found.structure is None:
        return found, observe(model, found, sample)
    try:
        return found, observe(model, found, sample)
    except JobError:
        unproved = replace(found, structure=None)
        return unproved, observe(model, unproved, sample)

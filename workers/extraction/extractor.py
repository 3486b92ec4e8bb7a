"""From a model and a first batch to an extractor that gives Φ and u for every batch.

`discover` records one run, walks back from the output to the head and fixes the relation
u = Φ Wᵀ + b, f = link(u). `Extractor.run` then lets the model run untouched up to the head. On
every batch two things are proved, not assumed: that Φ Wᵀ + b equals the outputs u the model
computed, and that what follows u gives the answer the model returned.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from service.failures import FailureCode
from workers.errors import JobError
from workers.extraction.consistency import residual, same, tolerance, working_dtype
from workers.extraction.execution import Batch, Output, copied, dtype_name, execute, resized
from workers.extraction.mismatch import explain, explaining
from workers.extraction.observation import Observation, observe
from workers.extraction.randomness import check_deterministic
from workers.extraction.refusals import Refusal, refuse
from workers.extraction.structure import Structure, count_parameters, find_structure, locate
from workers.extraction.tape import Tape
from workers.extraction.value_range import check_value_range

_DISCOVERY_ROWS = 16
"""Samples in the recorded run: enough to tell rows apart, few enough to hold every activation."""

_BAKED_ROWS = (1, 2, 4, 8, 32, 64, 128, 256)
"""Batch sizes tried when a traced model refuses that one."""

_ROW_TOLERANCE = 1e-3
"""A sample's Φ may change so much with its batch, relative: kernels differ by batch size."""


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """What was found: u = Φ Wᵀ + b and the model's answer f = link(u).

    Attributes:
        W: [C, p] float64, affine operations after the head folded in.
        b: [C] float64, or `None` if nothing is added.
        link: `identity`, `softmax`, `log_softmax`, `sigmoid`, …; several are joined by ` then `.
        kind: `linear` or `conv1x1`.
        location: The head's parameter, such as `fc.weight`, or its operation.
        head_op: The head's operation, such as `aten::linear`.
        output: Which of the model's results was taken; empty if it is the only one.
        p: Number of features.
        outputs: Number of outputs C.
        dtype: The dtype of Φ.
        parameters: Number of the model's parameters.
        warnings: What a reader of the figures must know, each as `code: sentence`.
    """

    W: Tensor
    b: Tensor | None
    link: str
    kind: str
    location: str
    head_op: str
    output: str
    p: int
    outputs: int
    dtype: str
    parameters: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Extracted:
    """One batch, in the model's dtype, on the CPU; nothing else holds the tensors.

    They are inference tensors: read them, convert them, but do not change them in place.

    Attributes:
        phi: Φ, [n, p].
        outputs: u, [n, C]: before the link.
    """

    phi: Tensor
    outputs: Tensor


class Extractor:
    """Gives Φ and u for batch after batch; made by `discover`.

    Attributes:
        feature_map: What was found.
        residual: The largest consistency residual of all batches so far.
    """

    def __init__(
        self,
        model: nn.Module,
        structure: Structure,
        feature_map: FeatureMap,
        first: Observation,
        baked_rows: int | None,
    ) -> None:
        self.feature_map = feature_map
        self.residual = 0.0
        self._model = model
        self._structure = structure
        self._baked_rows = baked_rows
        dtype = working_dtype(first.precision)
        self._weight = structure.weight.to(dtype)
        self._bias = None if structure.bias is None else structure.bias.to(dtype)
        self._center = first.logits.to(dtype).mean(dim=0)
        self._check_residual(first)

    def run(self, batch: Batch) -> Extracted:
        """Runs the model on a batch.

        Args:
            batch: The model's inputs, n samples along the first axis of each.

        Returns:
            Φ [n, p] and u [n, C] in the model's dtype.

        Raises:
            JobError: `input_mismatch`, `out_of_memory`, `non_finite`, or `unsupported_model` if Φ
                does not explain the model's answer on this batch.
        """
        rows = len(batch[0])
        size = self._baked_rows or rows
        with torch.inference_mode():
            parts = [
                self._run(tuple(tensor[start : start + size] for tensor in batch), size)
                for start in range(0, rows, size)
            ]
            if len(parts) == 1:
                return parts[0]
            return Extracted(
                torch.cat([part.phi for part in parts]), torch.cat([part.outputs for part in parts])
            )

    def _run(self, batch: Batch, size: int) -> Extracted:
        rows = len(batch[0])
        sample = resized(batch, size)
        with explaining(self._model, sample, self._baked_rows or _DISCOVERY_ROWS):
            seen = observe(self._model, self._structure, sample)
        self._check_residual(seen)
        return Extracted(seen.features[:rows], seen.logits[:rows])

    def _check_residual(self, seen: Observation) -> None:
        value = residual(
            seen.features,
            self._weight,
            self._bias,
            seen.logits,
            center=self._center,
            precision=seen.precision,
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
        self.residual = max(self.residual, value)


@torch.inference_mode()
def discover(model: nn.Module, batch: Batch) -> Extractor:
    """Finds Φ, W, b and the link of a model.

    Args:
        model: The model, on the CPU, in evaluation mode; `load_torchscript` gives one.
        batch: A first batch, ≥ 2 samples to notice that samples influence each other.

    Returns:
        What gives Φ for this and every other batch.

    Raises:
        JobError: `input_mismatch` if the model cannot take the batch, `head_not_found` if its
            output does not come from a linear layer, `non_finite`, or `unsupported_model` with
            the reason in `detail.code` (`Refusal`).
    """
    sample, tape, outputs = _record(model, batch)
    check_deterministic(tape.steps)
    structure = find_structure(tape, outputs)
    first = observe(model, structure, sample)
    _check_repeatable(outputs, structure, first)
    rows = len(sample[0])
    baked_rows = rows if rows != min(_DISCOVERY_ROWS, len(batch[0])) else None
    baked_rows, warnings = _check_samples(model, structure, sample, first, baked_rows)
    feature_map = FeatureMap(
        W=structure.weight,
        b=structure.bias,
        link=structure.link,
        kind=structure.kind,
        location=locate(structure, model, tape),
        head_op=structure.head_op,
        output=structure.output,
        p=structure.weight.shape[1],
        outputs=structure.weight.shape[0],
        dtype=dtype_name(first.features),
        parameters=count_parameters(model, tape),
        warnings=(*warnings, *check_value_range(model, tape, batch)),
    )
    return Extractor(model, structure, feature_map, first, baked_rows)


def _record(model: nn.Module, batch: Batch) -> tuple[Batch, Tape, list[Output]]:
    """Records a run on a few samples; on other batch sizes if one is baked into the archive."""
    usual = min(_DISCOVERY_ROWS, len(batch[0]))
    errors: list[JobError] = []
    for rows in dict.fromkeys((usual, len(batch[0]), *_BAKED_ROWS)):
        sample = resized(batch, rows)
        try:
            # Unwatched first: errors that pass through a dispatch mode lose their text, and a model
            # may set itself up in its first run.
            execute(model, copied(sample))
        except JobError as error:
            if error.failure.code is not FailureCode.INPUT_MISMATCH:
                raise
            errors.append(error)
            continue
        copies = copied(sample)
        tape = Tape(copies)
        return sample, tape, execute(model, copies, tape)
    raise explain(model, resized(batch, usual), errors[0]) from errors[0]


def _check_repeatable(outputs: list[Output], structure: Structure, first: Observation) -> None:
    """Compares the recorded run with the tapped one."""
    recorded = next(o.tensor for o in outputs if o.label == structure.output)
    if not same(first.answer, recorded, tolerance(first.precision)):
        raise refuse(
            Refusal.STOCHASTIC,
            "Two runs on the same batch gave different answers. Expected a model that is a "
            "function of its input.",
        )


def _check_samples(
    model: nn.Module,
    structure: Structure,
    sample: Batch,
    first: Observation,
    baked_rows: int | None,
) -> tuple[int | None, tuple[str, ...]]:
    """Tests whether a sample's Φ depends on how many and which others are in its batch."""
    rows = len(sample[0])
    half = rows // 2
    warnings: list[str] = []
    part: Observation | None = None
    if half and baked_rows is None:
        try:
            part = observe(model, structure, resized(sample, half))
        except JobError:
            baked_rows = rows
    if baked_rows is not None:
        warnings.append(
            f"fixed_batch: the archive takes exactly {baked_rows} samples at a time, so every "
            "batch is cut into such pieces and the last one filled up; trace the model with a "
            "dynamic batch size to make this faster."
        )
        if half:
            part = observe(model, structure, resized(resized(sample, half), rows))
    limit = max(tolerance(first.precision), _ROW_TOLERANCE)
    if part is not None and not (
        same(part.features[:half], first.features[:half], limit)
        and same(part.logits[:half], first.logits[:half], limit)
    ):
        warnings.append(
            "batch_dependent: a sample's features change with the other samples of its batch, so "
            "the figures depend on the batch size and the order of the samples."
        )
    return baked_rows, tuple(warnings)

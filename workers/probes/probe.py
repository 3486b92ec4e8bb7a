"""A probe in memory: checked, and handed out in batches once it is settled what a model gets."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import torch

from service.contract.failures import FailureCode
from service.contract.probe_spec import MAX_INPUTS, ProbeInput, ProbeSpec, ProbeSummary
from service.contract.transform import Transform
from workers.probes.containers.container import ArrayInfo, check_readable, shape_text, unreadable
from workers.probes.containers.inference import (
    SHARED,
    check_transforms_named,
    choose_inputs,
    choose_target,
    possible_targets,
    reasons_against,
    told_by_file,
)
from workers.probes.opening import open_container
from workers.probes.settling import decided_task, settle
from workers.probes.targets import NO_TARGET, ModelView, StoredTargets, Targets, store_targets
from workers.probes.transform import BatchTransform, check_finite
from workers.protocol.arguments import ProbeLimits
from workers.protocol.errors import JobError

_CHECK_BYTES = 8 << 20
"""About how much of a probe is transformed at once when all of it is only looked through."""

_LISTED = 8
_ASKED_FOR = ("parquet", "arrow", "csv")
"""Formats in which a target that cannot be told is asked for: without one, someone said so."""


@dataclass(frozen=True)
class StoredInput:
    """One array of inputs.

    Args:
        name: Its name in the file.
        stored: As stored, shape (n, …).
        transform: From stored rows to what a model is given.
    """

    name: str
    stored: npt.NDArray[np.generic]
    transform: BatchTransform

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample after the transform."""
        return self.transform.input_shape


@dataclass(frozen=True)
class ProbeData:
    """The samples of a probe, held as they are stored and transformed batch by batch.

    Args:
        spec: The spec as it was given, with what the file alone decides.
        stored: Arrays of these samples that are inputs, or that can be some, shape (n, …).
        inputs: What a model gets, in the order of its arguments, as far as spec and file tell:
            `given` settles it. Where the spec names none, what a person would take for the input.
        stored_targets: Of all samples of the file, as stored; None for a probe without.
        targets: Of these samples; None for a probe without, and until `settled` where only a model
            decides what they mean.
        rows: Position in the file of each sample, ascending.
        against: Of the arrays in the file that are neither of these, nor a part of one, nor the
            targets: by name, why each is no input.
        told_by_file: What makes an array the only input without a spec, in words; else empty.
        possible_targets: Of a probe without targets: the arrays in the file that could be some.
        columns: Of a table: those that are side by side as one input.
        left_out: How many samples of the file are left out because all their targets are.
    """

    spec: ProbeSpec
    stored: Mapping[str, npt.NDArray[np.generic]]
    inputs: tuple[StoredInput, ...]
    stored_targets: StoredTargets | None
    targets: Targets | None
    rows: npt.NDArray[np.int64]
    against: Mapping[str, str] = field(default_factory=dict)
    told_by_file: str = ""
    possible_targets: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    left_out: int = 0

    def given(self, transforms: Mapping[str, Transform]) -> "ProbeData":
        """Return the same samples, with what a model gets of them settled.

        Args:
            transforms: By the array's name, in the order of the model's arguments.

        Raises:
            JobError: `probe_unreadable` if a layout or the channels do not fit an array.
        """
        inputs = tuple(self.read_as(name, transform) for name, transform in transforms.items())
        return replace(self, stored={each.name: each.stored for each in inputs}, inputs=inputs)

    def read_as(self, name: str, transform: Transform) -> StoredInput:
        """Return one of the stored arrays with a transform.

        Raises:
            JobError: `probe_unreadable` if the layout or the channels do not fit the array.
        """
        stored = self.stored[name]
        return StoredInput(name, stored, BatchTransform(transform, stored.shape, stored.dtype))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def others(self) -> tuple[str, ...]:
        """Names of the arrays in the file that are of no use here."""
        return tuple(self.against)

    @property
    def ignored(self) -> int | None:
        """Labels that are left out, with those of samples left out; None where none is to be."""
        if self.targets is None or self.spec.ignore_label is None:
            return None
        return self.targets.ignored + self.left_out * self.targets.positions

    @property
    def notes(self) -> list[str]:
        """What was inferred about the targets, and what is left out."""
        found = [] if self.targets is None else [*self.targets.notes]
        if self.ignored is not None:
            samples = f", among them all those of {self.left_out:,} samples"
            found.append(
                f"{self.ignored:,} labels are left out of every figure: they are the "
                f'"ignore_label" {self.spec.ignore_label}{samples if self.left_out else ""}.'
            )
        given = [each.name for each in self.inputs]
        could_be = [name for name in self.possible_targets if name not in given]
        if could_be:
            listed = ", ".join(map(repr, could_be[:_LISTED])) + " …" * (len(could_be) > _LISTED)
            found.append(
                f"No array was taken for the targets, and {listed} could be: for the figures that "
                f'need targets, set "target": {json.dumps(could_be[0])} in the probe\'s spec if it '
                "holds them."
            )
        return found

    def settled(self, model: ModelView, like: Targets | None = None) -> "ProbeData":
        """Return the same samples, with targets that mean what fits the model.

        Args:
            model: Whose probe it is.
            like: Settled targets of the other probe of an analysis.

        Raises:
            JobError: `input_mismatch` or `probe_unreadable` for targets that do not fit.
        """
        if self.stored_targets is None:
            return self
        return _with_targets(self, settle(self.stored_targets, model, like))

    def batches(
        self, batch_size: int
    ) -> Iterator[tuple[tuple[torch.Tensor, ...], torch.Tensor | None]]:
        """Yield the samples in file order, transformed.

        Args:
            batch_size: Samples a batch; the last may be smaller.

        Yields:
            Inputs of shapes (b, *shape), contiguous and sharing no memory with the probe, and
            targets: int64 labels of shape (b,) or (b, *positions), -1 for those left out; float64
            values of shape (b, d), 0 and 1 for several labels a sample; or None.

        Raises:
            JobError: `non_finite` for NaN or Inf, with the first row concerned.
        """
        for start in range(0, len(self), batch_size):
            chunk = slice(start, start + batch_size)
            inputs = tuple(self._batch(each, chunk) for each in self.inputs)
            yield inputs, None if self.targets is None else self.targets.tensor(chunk)

    def _batch(self, each: StoredInput, chunk: slice) -> torch.Tensor:
        stored = each.stored[chunk]
        batch = each.transform(stored)
        check_finite(each.name, stored, batch, self.rows[chunk])
        return batch


def load_probe(
    file: BinaryIO,
    spec: ProbeSpec,
    limits: ProbeLimits,
    *,
    max_samples: int | None = None,
    seed: int = 0,
) -> ProbeData:
    """Read a probe file.

    What a model gets of it is settled later, by `ProbeData.given`.

    Args:
        file: Readable and seekable; nothing else is opened.
        spec: Complete, or with keys left open.
        limits: What the file may ask for.
        max_samples: Keep only this many, drawn without replacement and kept in file order. The
            number of classes is always that of the whole file.
        seed: Of that draw.

    Raises:
        JobError: `probe_unreadable`, `too_few_samples`, or `non_finite` for targets. Inputs are
            looked at as they are handed out.
    """
    container, spec = open_container(file, spec, limits)
    arrays = container.arrays
    target_name = choose_target(spec, arrays)
    names = choose_inputs(spec, target_name, arrays)
    check_transforms_named(spec, names, arrays)
    _check_arrays(names, target_name, arrays, limits)

    n = arrays[names[0]].shape[0]
    labelled, targets, stored_targets = np.arange(n), None, None
    if target_name is not None:
        stored_targets = store_targets(target_name, container.read(target_name), spec, limits)
        targets = settle(stored_targets)
        labelled = np.flatnonzero(~stored_targets.left_out.reshape(n, -1).all(axis=1))
    rows = _drawn(labelled, max_samples, seed)
    stored = {}
    for name in names:
        array = container.read(name)
        stored[name] = array if len(rows) == n else array[rows]
    is_said = spec.declares_no_target or spec.format in _ASKED_FOR
    is_open = target_name is None and not is_said
    probe = ProbeData(
        _completed(spec, names, target_name, stored_targets),
        stored,
        (),
        stored_targets,
        None,
        rows,
        against=reasons_against(names, target_name, arrays),
        told_by_file=told_by_file(names, target_name, arrays),
        possible_targets=possible_targets(n, arrays) if is_open else (),
        columns=tuple(column for name in names for column in arrays[name].columns),
        left_out=n - len(labelled),
    )
    told = spec.inputs or names[:1]
    inputs = [
        probe.read_as(name, spec.transform_of(name, position) or Transform())
        for position, name in enumerate(told)
    ]
    return _with_targets(replace(probe, inputs=tuple(inputs)), targets)


def _check_arrays(
    names: Sequence[str],
    target_name: str | None,
    arrays: Mapping[str, ArrayInfo],
    limits: ProbeLimits,
) -> None:
    """Refuse arrays that do not fit together, or cannot be read, before any is."""
    for name in names:
        _check_samples(name, arrays[name].shape)
        _check_lengths(names[0], name, arrays, "input")
    if target_name is not None:
        _check_lengths(names[0], target_name, arrays, "target")
    for name in names:
        check_readable(name, arrays[name], limits)
    if target_name is not None:
        check_readable(target_name, arrays[target_name], limits, as_targets=True)
    _check_size(names, arrays, limits)


def _drawn(
    rows: npt.NDArray[np.int64], max_samples: int | None, seed: int
) -> npt.NDArray[np.int64]:
    """Draw at most so many rows, in file order."""
    if max_samples is None or max_samples >= len(rows):
        return rows
    drawn: npt.NDArray[np.int64] = np.random.default_rng(seed).choice(
        rows, max_samples, replace=False
    )
    return np.sort(drawn)


def _completed(
    spec: ProbeSpec,
    names: Sequence[str],
    target_name: str | None,
    stored_targets: StoredTargets | None,
) -> ProbeSpec:
    """Return the spec with what the file decides of the keys that it leaves open."""
    # That no target was found is left open, as it is no answer of the owner.
    decided: dict[str, object] = {} if target_name is None else {"target": target_name}
    task = None if stored_targets is None else decided_task(stored_targets)
    if stored_targets is None or task is not None:
        decided["task"] = task
    if len(names) == 1 and spec.input is None:
        decided["input"] = names[0]
    return ProbeSpec.model_validate({**spec.model_dump(mode="json"), **decided})


def _with_targets(probe: ProbeData, targets: Targets | None) -> ProbeData:
    if targets is None:
        return probe
    spec = probe.spec.model_copy(update={"task": targets.task})
    return replace(probe, spec=spec, targets=targets.take(probe.rows))


def inspect_probe(file: BinaryIO, spec: ProbeSpec, limits: ProbeLimits) -> ProbeSummary:
    """Read a whole probe once, so that no analysis of it meets a surprise.

    Args:
        file: Readable and seekable; nothing else is opened.
        spec: With any keys left to inference.
        limits: What the file may ask for.

    Raises:
        JobError: `probe_unreadable`, `too_few_samples`, `non_finite`.
    """
    probe = load_probe(file, spec, limits)
    # An array that no model may ever ask for is no reason to refuse the others.
    bytes_per_sample = max(1, sum(each.stored.nbytes for each in probe.inputs) // len(probe))
    for _ in probe.batches(max(1, _CHECK_BYTES // bytes_per_sample)):
        pass  # handing them out is the check
    told = [each.name for each in probe.inputs]
    possible = [probe.read_as(name, Transform()) for name in probe.stored if name not in told]
    targets = probe.targets
    return ProbeSummary(
        n=len(probe),
        input_shape=list(probe.inputs[0].shape),
        inputs=[
            ProbeInput(name=each.name, shape=list(each.shape), dtype=each.transform.dtype)
            for each in [*probe.inputs, *possible][:MAX_INPUTS]
        ],
        task=probe.spec.task,
        classes=None if targets is None else targets.classes,
        class_counts=None if targets is None else targets.class_counts,
        spec=probe.spec,
    )


def _check_samples(name: str, shape: tuple[int, ...]) -> None:
    """Refuse an array that holds no inputs."""
    if not shape or not all(shape[1:]):
        raise unreadable(
            f"The inputs {name!r} have shape {shape_text(shape)}; expected samples first, such as "
            "(n, features) or (n, channels, height, width).",
            hint="Store one row a sample.",
        )
    if shape[0] == 0:
        raise JobError(
            FailureCode.TOO_FEW_SAMPLES,
            f"The inputs {name!r} have shape {shape_text(shape)}, which is 0 samples; expected at "
            "least 1.",
            hint="Check that the array was filled before it was saved.",
        )


def _check_lengths(
    first: str, other: str, arrays: Mapping[str, ArrayInfo], role: Literal["input", "target"]
) -> None:
    """Refuse an array that does not hold as many samples as the first input."""
    n, n_other = (shape[0] if (shape := arrays[name].shape) else 1 for name in (first, other))
    if n != n_other:
        is_target = role == "target"
        raise unreadable(
            f"{first!r} holds {n:,} samples but {other!r} holds {n_other:,} "
            f"{'targets' if is_target else 'samples'}; expected equal numbers.",
            hint=f"Save inputs and targets of the same samples, in the same order, {NO_TARGET}"
            if is_target
            else f"Save the same samples in each, in the same order. {SHARED}",
            detail={"inputs": n, "targets": n_other} if is_target else {"inputs": [n, n_other]},
        )


def _check_size(names: Sequence[str], arrays: Mapping[str, ArrayInfo], limits: ProbeLimits) -> None:
    """Refuse inputs that are each bearable and together are not."""
    together = sum(arrays[name].nbytes for name in names)
    if together > limits.max_array_bytes:
        raise unreadable(
            f"The inputs take {together:,} bytes together; at most {limits.max_array_bytes:,} "
            "bytes are read.",
            hint="Register fewer samples, or store them in a smaller dtype such as uint8. Where "
            'the file holds more than the inputs, name those in the spec, as "input": "x".',
            detail={"bytes": together, "limit": limits.max_array_bytes},
        )

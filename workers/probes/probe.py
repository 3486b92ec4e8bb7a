"""A probe in memory: checked, completed by inference, and handed out in batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch

from service.failures import FailureCode
from service.probes.spec import ProbeSpec, ProbeSummary
from workers.errors import JobError
from workers.probes.container import Limits, check_readable, shape_text, unreadable
from workers.probes.inference import choose_input, choose_target, infer_transform
from workers.probes.opening import open_container
from workers.probes.targets import Targets, read_targets
from workers.probes.transform import BatchTransform, check_finite

_CHECK_BYTES = 8 << 20
"""About how much of a probe is transformed at once when all of it is only looked through."""


@dataclass(frozen=True)
class ProbeData:
    """The samples of a probe, held as they are stored and transformed batch by batch.

    Args:
        spec: The spec, complete.
        inputs: As stored, shape (n, …).
        targets: Of these samples; None for a probe without.
        rows: Position in the file of each sample, ascending.
        transform: From stored rows to a model's inputs.
    """

    spec: ProbeSpec
    inputs: npt.NDArray[np.generic]
    targets: Targets | None
    rows: npt.NDArray[np.int64]
    transform: BatchTransform

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input after the transform."""
        return self.transform.input_shape

    def batches(self, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        """The samples in file order, transformed.

        Args:
            batch_size: Samples a batch; the last may be smaller.

        Yields:
            Inputs of shape (b, *input_shape), contiguous and sharing no memory with the probe,
            and targets: int64 labels of shape (b,), float64 values of shape (b, d), or None.

        Raises:
            JobError: `non_finite` for NaN or Inf, with the first row concerned.
        """
        for start in range(0, len(self), batch_size):
            chunk = slice(start, start + batch_size)
            stored = self.inputs[chunk]
            inputs = self.transform(stored)
            check_finite(str(self.spec.input), stored, inputs, self.rows[chunk])
            targets = self.targets
            yield inputs, None if targets is None else torch.from_numpy(targets.values[chunk])


def load_probe(
    file: BinaryIO,
    spec: ProbeSpec,
    limits: Limits,
    *,
    max_samples: int | None = None,
    seed: int = 0,
) -> ProbeData:
    """Read a probe file.

    Args:
        file: Readable and seekable; nothing else is opened.
        spec: Complete, or with keys left to inference.
        limits: What the file may ask for.
        max_samples: Keep only this many, drawn without replacement and kept in file order. The
            number of classes is always that of the whole file.
        seed: Of that draw.

    Raises:
        JobError: `probe_unreadable`, `too_few_samples`, or `non_finite` for targets. Inputs are
            looked at as they are handed out.
    """
    found_format, container = open_container(file, spec.format, limits)
    arrays = container.arrays
    input_name = choose_input(spec, arrays)
    target_name = choose_target(spec, input_name, arrays)
    input_info = arrays[input_name]
    _check_samples(input_name, input_info.shape)
    if target_name is not None:
        _check_lengths(input_name, input_info.shape, target_name, arrays[target_name].shape)
    for name in filter(None, (input_name, target_name)):
        check_readable(name, arrays[name], limits)

    transform = infer_transform(spec, input_info)
    prepared = BatchTransform(transform, input_info.shape, np.dtype(input_info.dtype))
    targets = None
    if target_name is not None:
        targets = read_targets(target_name, container.read(target_name), spec.task, limits)
    inputs = container.read(input_name)
    rows = np.arange(len(inputs))
    if max_samples is not None and max_samples < len(inputs):
        generator = np.random.default_rng(seed)
        rows = np.sort(generator.choice(len(inputs), max_samples, replace=False))
        inputs = inputs[rows]
        targets = None if targets is None else targets.take(rows)
    complete = ProbeSpec(
        format=found_format,
        input=input_name,
        target=target_name,
        task=None if targets is None else targets.task,
        transform=transform,
    )
    return ProbeData(complete, inputs, targets, rows, prepared)


def inspect_probe(file: BinaryIO, spec: ProbeSpec, limits: Limits) -> ProbeSummary:
    """Read a whole probe once, so that no analysis of it meets a surprise.

    Args:
        file: Readable and seekable; nothing else is opened.
        spec: With any keys left to inference.
        limits: What the file may ask for.

    Raises:
        JobError: `probe_unreadable`, `too_few_samples`, `non_finite`.
    """
    probe = load_probe(file, spec, limits)
    bytes_per_sample = max(1, probe.inputs.nbytes // len(probe))
    for _ in probe.batches(max(1, _CHECK_BYTES // bytes_per_sample)):
        pass  # handing them out is the check
    targets = probe.targets
    return ProbeSummary(
        n=len(probe),
        input_shape=list(probe.input_shape),
        task=None if targets is None else targets.task,
        classes=None if targets is None else targets.classes,
        class_counts=None if targets is None else targets.class_counts,
        spec=probe.spec,
    )


def _check_samples(name: str, shape: tuple[int, ...]) -> None:
    if len(shape) <= 1 or not all(shape[1:]):
        raise unreadable(
            f"The inputs {name!r} have shape {shape_text(shape)}; expected samples first and at "
            "least one feature axis, such as (n, features) or (n, channels, height, width).",
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
    input_name: str,
    input_shape: tuple[int, ...],
    target_name: str,
    target_shape: tuple[int, ...],
) -> None:
    n_targets = target_shape[0] if target_shape else 1
    if n_targets != input_shape[0]:
        raise unreadable(
            f"{input_name!r} holds {input_shape[0]:,} samples but {target_name!r} holds "
            f"{n_targets:,} targets; expected equal numbers.",
            hint="Save inputs and targets of the same samples, in the same order.",
            detail={"inputs": input_shape[0], "targets": n_targets},
        )

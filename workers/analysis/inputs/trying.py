"""Running a model on what a probe can give it, in one form after the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product

import numpy as np
import numpy.typing as npt
from torch import nn

from service.contract.failures import FailureCode
from service.contract.probe_spec import ImageMode
from service.contract.transform import Transform
from workers.analysis.inputs.binding import Binding
from workers.analysis.inputs.forms import forms, likely_floats
from workers.analysis.inputs.scale import Scale, said_scale, same_answers, shown_scale
from workers.extraction.fit.mismatch import CorrectableError, explain
from workers.extraction.fit.recording import first_run
from workers.extraction.trace.execution import Batch, Output
from workers.extraction.trace.signature import Argument, Called
from workers.probes.containers.pictures import CHANNELS
from workers.probes.probe import ProbeData
from workers.protocol.errors import JobError

ROWS = 16
_SPREAD_ROWS = 64
_TRIES = 64
"""Combinations of forms tried for one binding: three inputs of four forms each."""


@dataclass(frozen=True)
class Trial:
    """One binding of a probe's arrays to a model's arguments, to be tried.

    Attributes:
        model: The model, as it was loaded.
        arguments: What it takes.
        probe: The samples.
        binding: Which array each argument gets.
        device: Where the model is.
        authority: In words, why things are as the spec has them.
    """

    model: nn.Module
    arguments: Sequence[Argument]
    probe: ProbeData
    binding: Binding
    device: str
    authority: str

    @property
    def called(self) -> Called:
        """The model, called with the tensors of a batch in the order of the binding."""
        return Called(self.model, list(self.binding.arrays))

    @property
    def said(self) -> list[Transform | None]:
        """What the spec says is done to each input, in the order of the arguments."""
        named = self.probe.spec.inputs or list(self.binding.arrays.values())
        return [
            self.probe.spec.transform_of(array, named.index(array))
            for array in self.binding.arrays.values()
        ]

    def stored(self) -> list[npt.NDArray[np.generic]]:
        """Return the arrays, in the order of the arguments."""
        return [self.probe.stored[array] for array in self.binding.arrays.values()]

    def search(self, *, any_size: bool) -> "Running | None":
        """Return the first combination of forms that the model runs on, and what it answers then.

        Args:
            any_size: Try other numbers of samples, too, as an archive may take one alone.
        """
        for forms_tried in self._combinations():
            outputs = self._run(forms_tried, any_size=any_size)
            if outputs is not None:
                rivals = list(self._rivals(forms_tried, outputs))
                return Running(self, forms_tried, outputs, rivals)
        return None

    def _rivals(
        self, found: Sequence[Transform], outputs: Sequence[Output]
    ) -> Iterator[tuple[Transform, ...]]:
        """Yield other layouts that the model runs on, too, with other answers."""
        for combination in self._combinations():
            pairs = list(zip(found, combination, strict=True))
            if all(a.layout == b.layout for a, b in pairs) or any(
                a.dtype != b.dtype for a, b in pairs
            ):
                continue
            others = self._run(combination, any_size=True)
            if others is not None and not same_answers(outputs, others):
                yield combination

    def explained(self) -> JobError:
        """Say why the model runs on nothing that it was given."""
        first = next(self._combinations())
        batch = self.batch(first)
        try:
            first_run(self.called, batch, ROWS)
        except JobError as refused:
            error = explain(self.called, batch, refused)
            if (mode := self._image_mode_for(error)) is not None:
                return JobError(
                    error.failure.code,
                    error.failure.message,
                    hint=f'Set "image_mode": "{mode}" in the probe\'s spec, which decodes its '
                    "images to as many channels.",
                    detail=error.failure.detail,
                )
            if isinstance(error, CorrectableError) and len(first) == 1:
                (said,) = self.said
                return error.after(
                    first[0], keeps_dtype=said is not None and said.dtype is not None
                )
            return error
        raise AssertionError("a model that runs on nothing ran")

    def _image_mode_for(self, error: JobError) -> ImageMode | None:
        """Return what the probe's images would have to be decoded to for the model to take them."""
        expected = error.failure.detail.get("expected")
        channels = expected.get("channels") if isinstance(expected, dict) else None
        mode = next((mode for mode, count in CHANNELS.items() if count == channels), None)
        return None if self.probe.spec.image_mode in {None, mode} else mode

    def batch(self, combination: Sequence[Transform], *, spread: int = 0) -> Batch:
        """Return some samples, in these forms.

        Args:
            combination: The form of each input.
            spread: How many, evenly from the whole probe, which may be sorted by class; 0 for a few
                from its beginning.
        """
        n = len(self.probe)
        rows = np.arange(min(n, ROWS))
        if spread:
            rows = np.unique(np.linspace(0, n - 1, spread).astype(np.int64))
        tensors = []
        for array, transform in zip(self.binding.arrays.values(), combination, strict=True):
            each = self.probe.read_as(array, transform)
            tensors.append(each.transform(each.stored[rows]).to(self.device))
        return tuple(tensors)

    def _combinations(self) -> Iterator[tuple[Transform, ...]]:
        options = [
            forms(stored, said, likely_floats(self.model, position))
            for position, stored, said in zip(
                self.binding.arrays, self.stored(), self.said, strict=True
            )
        ]
        return islice(product(*options), _TRIES)

    def _run(self, combination: Sequence[Transform], *, any_size: bool) -> list[Output] | None:
        try:
            return first_run(self.called, self.batch(combination), ROWS, any_size=any_size)[1]
        except JobError as error:
            if error.failure.code is FailureCode.INPUT_MISMATCH:
                return None
            if error.failure.code is FailureCode.UNSUPPORTED_MODEL:
                return []  # it ran; that nothing of its results can be read is said later
            raise


@dataclass(frozen=True)
class Running:
    """A combination of forms that a model runs on.

    Attributes:
        trial: The binding.
        forms: A transform for each input, without the scale that may be missing.
        outputs: What the model answered.
        rivals: Combinations with other layouts that it runs on, too, and answers otherwise.
    """

    trial: Trial
    forms: tuple[Transform, ...]
    outputs: Sequence[Output]
    rivals: list[tuple[Transform, ...]]

    def scales(self) -> list[Scale]:
        """Return what is known of each input's scale."""
        batch: Batch | None = None
        scales = []
        for place, (stored, said, form) in enumerate(
            zip(self.trial.stored(), self.trial.said, self.forms, strict=True)
        ):
            scale = said_scale(stored, said, form, self.trial.authority)
            if scale is None:
                batch = batch or self._evidence()
                scale = shown_scale(self.trial.called, batch, place, stored)
            scales.append(scale)
        return scales

    def _evidence(self) -> Batch:
        """Return samples that the model is run on to see what they mean to it."""
        spread = self.trial.batch(self.forms, spread=_SPREAD_ROWS)
        return first_run(self.trial.called, spread, len(spread[0]))[0]

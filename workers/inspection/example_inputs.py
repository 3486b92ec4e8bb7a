"""Finding an input that a model takes, where nobody said what one looks like.

The model is run on a first guess. The operation that fails tells more than its error: the shape of
its weight says how many features, channels or table entries the input must have. What stays open is
a size (pixels, tokens, steps); customary ones are tried, then those between the last one that was
too small and the first one that was too large. Everything is drawn with a fixed seed, in a fixed
order.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from service.contract.failures import FailureCode
from workers.extraction.refusals import gist
from workers.extraction.trace.execution import Batch, Output, copied, execute
from workers.extraction.trace.signature import as_saved
from workers.inspection.attempts import Attempt, Clue
from workers.inspection.clues import forms_of_weight
from workers.inspection.forms import Form, draw, elements, is_open
from workers.inspection.recorded import Origin, Recorded
from workers.protocol.errors import JobError

_Forms = tuple[Form, ...]

_ROWS = 4
"""Samples of an example: enough to tell the sample axis from others, few enough to be quick."""

_OTHER_ROWS = (1, 2, 8, 16, 32, 64, 128, 256)
"""Tried where an archive takes one batch size alone."""

_ATTEMPTS = 40
"""Runs before guessing ends. The hardest of 28 architectures tried needed 9."""

_ELEMENTS = 1 << 22
"""Values in one guessed sample."""

_SIZES = (32, 28, 64, 224, 16, 8, 128, 96, 256, 299, 384, 512, 1024, 4096, 16384)

_FIRST: _Forms = (
    Form((2, None, None)),
    Form((None,)),
    Form((None,), torch.int64),
    Form((None, None)),
)
"""An image, a vector, tokens, a sequence: as much as can be said before the first weight is seen.

Images have two channels, since a model would take one for three: it can be broadcast."""

_WEIGHTS = 6
"""Weights whose shapes are looked at where the model refuses an input before it uses a weight."""

_HINT = (
    "Say what one sample of each input looks like, without the batch axis: input=3x224x224, or "
    "input=128:int64 for 128 tokens; one `input` for each tensor that forward takes."
)
_LISTED = 12
_LISTED_CHARACTERS = 1500


@dataclass(frozen=True, slots=True)
class Example:
    """A batch that the model takes.

    Attributes:
        origin: Who said what it looks like.
        batch: One tensor for each input, [samples, *sample].
    """

    origin: Origin
    batch: Batch


@torch.inference_mode()
def find_example(model: nn.Module, inputs: int, known: Recorded | None) -> Example:
    """Find an input that a model takes.

    Args:
        model: The model, in evaluation mode.
        inputs: How many tensors it takes.
        known: What somebody said its inputs look like; then nothing else is tried.

    Raises:
        JobError: `input_mismatch`, with what was tried and what the model said.
    """
    search = _Search(model)
    if known is None:
        return Example("guessed", search.guess(inputs))
    return Example(known.origin, search.fill(known) if is_open(known.forms) else search.use(known))


class _Search:
    """Runs a model until it takes what it is given."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._left = _ATTEMPTS
        self._tried: list[str] = []
        self._said = ""
        self._furthest = -1
        self._unusual: Batch | None = None

    def use(self, known: Recorded) -> Batch:
        """Try forms without open sizes, with several numbers of samples.

        An archive traced without a dynamic batch axis takes one number of samples alone.
        """
        self._tried.append(_spell(known.forms, 0))
        for rows in dict.fromkeys((_ROWS, known.rows or _ROWS, *_OTHER_ROWS)):
            batch = draw(known.forms, 0, rows)
            if self._attempt(batch) is None or self._unusual is not None:
                return batch
        raise self._nothing(f"inputs of the {known.origin} shape")

    def fill(self, known: Recorded) -> Batch:
        """Find a size for the axes that are left open."""
        found = self._sizes(known.forms)
        if isinstance(found, tuple):
            return found
        return self._second_best(f"inputs of the {known.origin} shape")

    def guess(self, inputs: int) -> Batch:
        """Try what is customary, and whatever the failures suggest before that."""
        waiting = deque((form,) * inputs for form in (*_FIRST, *_suggested(self._model)))
        seen: set[_Forms] = set()
        while waiting and self._left:
            forms = waiting.popleft()
            if forms in seen:
                continue
            seen.add(forms)
            found = self._sizes(forms)
            if isinstance(found, tuple):
                return found
            waiting.extendleft(reversed(found))
        return self._second_best("any of the inputs that were guessed")

    def _second_best(self, what: str) -> Batch:
        """Return a batch that the model took, though it did not give one row for each sample."""
        if self._unusual is None:
            raise self._nothing(what)
        return self._unusual

    def _sizes(self, forms: _Forms) -> Batch | list[_Forms]:
        """Try sizes for what is open; return what to try instead if these forms are wrong."""
        smallest, largest = 0.0, math.inf
        tried: set[int] = set()
        while self._left and (size := _next_size(forms, tried, smallest, largest)) is not None:
            tried.add(size)
            self._tried.append(_spell(forms, size))
            batch = draw(forms, size, _ROWS)
            clue = self._attempt(batch)
            if clue is None:
                return batch
            # A model that checks its input by itself says nothing of first guesses but no.
            if clue.forms or clue.is_hopeless or (not clue.inputs and forms[0] in _FIRST):
                return list(_refined(forms, clue))
            if clue.growth > 0:
                smallest = max(smallest, size)
            elif clue.growth < 0:
                largest = min(largest, size)
        return []

    def _attempt(self, batch: Batch) -> Clue | None:
        """Run the model: `None` if it takes the batch, else what its failure tells."""
        self._left -= 1
        inputs = copied(batch)
        attempt = Attempt(inputs)
        try:
            outputs = execute(self._model, inputs, attempt)
        except JobError as error:
            if error.failure.code == FailureCode.UNSUPPORTED_MODEL:
                return None  # it ran; that nothing of its results can be read is another matter
            if error.failure.code == FailureCode.OUT_OF_MEMORY:
                self._said = self._said or error.failure.message
                return Clue(growth=-1)
            if len(attempt.steps) > self._furthest:
                self._furthest = len(attempt.steps)
                self._said = gist(attempt.error or error.__cause__ or error)
            return attempt.clue()
        clue = _judge(outputs, len(batch[0]), len(batch))
        if clue is not None:
            self._unusual = self._unusual or batch
        return clue

    def _nothing(self, what: str) -> JobError:
        listed = "; ".join(self._tried[:_LISTED])[:_LISTED_CHARACTERS]
        more = f"; and {len(self._tried) - _LISTED} more" if len(self._tried) > _LISTED else ""
        return JobError(
            FailureCode.INPUT_MISMATCH,
            f"The model could not run on {what}. Tried samples of {listed}{more}. The model said: "
            f"{self._said}",
            hint=_HINT,
            detail={"model_error": self._said},
        )


def _judge(outputs: Sequence[Output], rows: int, inputs: int) -> Clue | None:
    """Judge a run that succeeded: `None` if it gave one row of outputs for each sample.

    More rows than samples come from an input that is too large for a model that cuts it into rows.
    Outputs for each position may be meant, or come from an input with an axis too many.
    """
    shapes = [tuple(output.tensor.shape) for output in outputs]
    if any(len(shape) <= 2 and shape[:1] == (rows,) for shape in shapes):  # noqa: PLR2004 - a matrix
        return None
    everything = frozenset(range(inputs))
    if any(shape[:1] == (rows,) for shape in shapes) or not shapes[0]:
        return Clue(everything, is_hopeless=True)
    return Clue(everything, growth=-1 if shapes[0][0] > rows else 1)


def _next_size(forms: _Forms, tried: set[int], smallest: float, largest: float) -> int | None:
    """Return a customary size between the bounds, or the middle between them."""
    if not is_open(forms):
        return None if tried else 0
    customary = (s for s in _SIZES if s not in tried and smallest < s < largest)
    size = next((s for s in customary if elements(forms, s) <= _ELEMENTS), None)
    if size is None and largest - smallest > 1 and math.isfinite(largest):
        size = int(smallest + largest) // 2
    return size


def _refined(forms: _Forms, clue: Clue) -> Iterator[_Forms]:
    """Put what a failure suggests in place of the inputs it concerns."""
    suggested = list(clue.forms)
    concerned = len(clue.inputs)
    if concerned > 1 and suggested:  # joined before they are used: equal shares
        width = suggested[0].axes[-1] or 0
        if width % concerned == 0:
            suggested.insert(0, Form((width // concerned,), suggested[0].dtype))
    for form in suggested:
        # Inputs of which nothing is known yet are most often alike: tokens and their mask.
        yield tuple(form if i in clue.inputs or f in _FIRST else f for i, f in enumerate(forms))
        yield tuple(form if i in clue.inputs else f for i, f in enumerate(forms))


def _spell(forms: _Forms, size: int) -> str:
    """Return samples as requests declare them, such as `3x32x32` and `128:int64`."""
    spelled = []
    for form in forms:
        shape = "x".join(map(str, form.shape(size))) or "one number"
        dtype = str(form.dtype).removeprefix("torch.")
        spelled.append(shape if dtype == "float32" else f"{shape}:{dtype}")
    return " and ".join(spelled)


def _suggested(model: nn.Module) -> list[Form]:
    """Return inputs that the model's first weights could be made for."""
    weights = list(model.parameters())
    saved = as_saved(model)
    if isinstance(saved, torch.jit.ScriptModule):
        graph: Any = (
            saved.inlined_graph
        )  # freezing turns parameters into constants, the first one last
        constants = reversed(graph.findAllNodes("prim::Constant"))
        weights += [n.t("value") for n in constants if n.output().type().kind() == "TensorType"]
    # Kernels first: of a model with a convolution, they say more than its class token.
    weights = sorted((w for w in weights if w.dim() > 1), key=Tensor.dim, reverse=True)
    return [form for weight in weights[:_WEIGHTS] for form in forms_of_weight(weight)]

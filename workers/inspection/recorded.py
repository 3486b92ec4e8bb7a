"""What an archive records of the inputs it was made with."""

import warnings
from contextlib import suppress
from typing import Any, BinaryIO, Literal, NamedTuple

import torch
from torch import Tensor, fx, nn

from workers.extraction.trace.signature import as_saved, exported_inputs
from workers.inspection.forms import Form

Origin = Literal["declared", "exported", "traced", "guessed"]
"""Who said what an input looks like: the request, torch.export, torch.jit.trace, or nobody."""


class Recorded(NamedTuple):
    """What an archive says of its inputs' shapes.

    Attributes:
        origin: Who said it.
        forms: One for each tensor.
        rows: Samples in the batch that the archive was made with; `None` for any number.
    """

    origin: Origin
    forms: tuple[Form, ...]
    rows: int | None = None


def read_recorded(model: nn.Module, file: BinaryIO) -> Recorded | None:
    """Read what the archive was made with: `torch.export` and `torch.jit.trace` keep that.

    Args:
        model: The loaded model.
        file: Its archive; its position is left anywhere.
    """
    if isinstance(as_saved(model), fx.GraphModule):
        return _exported(list(exported_inputs(model).values()))
    with suppress(Exception):  # what is wrong with a record is no reason to refuse the model
        return _traced(file)
    return None


def _exported(tensors: list[Tensor]) -> Recorded | None:
    if not tensors or not all(tensor.dim() for tensor in tensors):
        return None
    shapes = [[_fixed(size) for size in tensor.shape] for tensor in tensors]
    forms = [Form(tuple(s[1:]), t.dtype) for s, t in zip(shapes, tensors, strict=True)]
    return Recorded("exported", tuple(forms), shapes[0][0])


def _fixed(size: object) -> int | None:
    """Return a size, unless it is the symbol of one that may vary."""
    return size if isinstance(size, int) else None


def _traced(file: BinaryIO) -> Recorded | None:
    file.seek(0)
    reader: Any = torch._C.PyTorchFileReader(file)  # noqa: SLF001 - there is no public one
    if not reader.has_record("traced_inputs.pkl"):
        return None
    file.seek(0)
    # torch tells the shapes only of a module that it loads anew; this one is dropped at once.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.load`", DeprecationWarning)
        model: torch.jit.ScriptModule = torch.jit.load(  # type: ignore[no-untyped-call]  # torch annotates it in part
            file, map_location="cpu", _restore_shapes=True
        )
    inputs = list(model.graph.inputs())[1:]
    if not inputs or not all(value.isCompleteTensor() for value in inputs):
        return None
    types: list[Any] = [value.type() for value in inputs]
    if not all(kind.sizes() for kind in types):
        return None
    forms = tuple(Form(tuple(kind.sizes()[1:]), kind.dtype()) for kind in types)
    return Recorded("traced", forms, types[0].sizes()[0])

"""What a model takes, as its archive says it."""

import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, NamedTuple, cast

import torch
from torch import Tensor, fx, nn

from service.failures import FailureCode
from workers.errors import JobError
from workers.extraction.forms import Form
from workers.extraction.refusals import Refusal, printable, refuse

Origin = Literal["declared", "exported", "traced", "guessed"]
"""Who said what an input looks like: the request, torch.export, torch.jit.trace, or nobody."""

_ARGUMENTS = 64
_NAME_CHARACTERS = 100
_TENSOR_TYPES = {"Tensor", "Optional[Tensor]"}


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a model's `forward`.

    Attributes:
        name: Its name in the source.
        type: Its type as TorchScript writes it, such as `Tensor` or `Optional[Tensor]`.
        default: Its default value in words; `None` if it has none, and so must be given.
    """

    name: str
    type: str
    default: str | None

    @property
    def is_tensor(self) -> bool:
        """Whether a tensor can be passed for it."""
        return self.type in _TENSOR_TYPES


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


def read_arguments(model: nn.Module) -> list[Argument]:
    """Reads the arguments of `forward`.

    Raises:
        JobError: `not_a_model` if the archive has no `forward`.
    """
    if isinstance(model, fx.GraphModule):
        placeholders = [str(node.target) for node in _placeholders(model)]
        return [Argument(printable(n, _NAME_CHARACTERS), "Tensor", None) for n in placeholders]
    try:
        schema = cast("Any", model.forward).schema
    except (AttributeError, RuntimeError) as error:
        raise refuse(
            Refusal.LOAD_FAILED,
            "The archive has no method `forward`; expected the program of a model.",
        ) from error
    return [
        Argument(
            name=printable(argument.name, _NAME_CHARACTERS),
            type=printable(str(argument.type), _NAME_CHARACTERS),
            default=_default(argument.default_value) if argument.has_default_value() else None,
        )
        for argument in schema.arguments[1 : _ARGUMENTS + 1]
    ]


def leading_tensors(arguments: Sequence[Argument]) -> list[Argument]:
    """The arguments that a call with tensors alone can fill, in order.

    Raises:
        JobError: `input_mismatch` if there are none, or another argument must be given, too.
    """
    tensors: list[Argument] = []
    for argument in arguments:
        if not argument.is_tensor:
            break
        tensors.append(argument)
    for argument in arguments[len(tensors) :]:
        if argument.default is None:
            raise _unfillable(argument)
    if not tensors:
        raise _takes_nothing()
    return tensors


def _unfillable(argument: Argument) -> JobError:
    return JobError(
        FailureCode.INPUT_MISMATCH,
        f"`forward` needs the argument `{argument.name}` of type {argument.type}; expected tensors "
        "first, and default values for everything else.",
        hint="Save the model inside one whose forward takes tensors alone.",
        detail={"argument": argument.name, "type": argument.type},
    )


def _takes_nothing() -> JobError:
    return JobError(
        FailureCode.INPUT_MISMATCH,
        "`forward` takes no tensor; expected the inputs of a batch as its first argument.",
        hint="Save a model whose forward takes its inputs.",
    )


def read_recorded(model: nn.Module, file: BinaryIO) -> Recorded | None:
    """Reads what the archive was made with: `torch.export` and `torch.jit.trace` keep that.

    Args:
        model: The loaded model.
        file: Its archive; its position is left anywhere.
    """
    if isinstance(model, fx.GraphModule):
        return _exported([node.meta.get("val") for node in _placeholders(model)])
    with suppress(Exception):  # what is wrong with a record is no reason to refuse the model
        return _traced(file)
    return None


def _placeholders(model: fx.GraphModule) -> list[fx.Node]:
    return [node for node in model.graph.nodes if node.op == "placeholder"][:_ARGUMENTS]


def _exported(values: list[object]) -> Recorded | None:
    tensors = [value for value in values if isinstance(value, Tensor) and value.dim()]
    if not tensors or len(tensors) != len(values):
        return None
    shapes = [[_fixed(size) for size in tensor.shape] for tensor in tensors]
    forms = [Form(tuple(s[1:]), t.dtype) for s, t in zip(shapes, tensors, strict=True)]
    return Recorded("exported", tuple(forms), shapes[0][0])


def _fixed(size: object) -> int | None:
    """A size, unless it is the symbol of one that may vary."""
    return size if isinstance(size, int) else None


def _traced(file: BinaryIO) -> Recorded | None:
    file.seek(0)
    reader: Any = torch._C.PyTorchFileReader(file)  # noqa: SLF001  (there is no public one)
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


def _default(value: object) -> str:
    return printable(repr(value), _NAME_CHARACTERS)

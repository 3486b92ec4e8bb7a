"""What a model takes, as its archive says it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import fx, nn

from service.failures import FailureCode
from workers.errors import JobError
from workers.extraction.refusals import Refusal, printable, refuse

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


def read_arguments(model: nn.Module) -> list[Argument]:
    """Reads the arguments of `forward`.

    Raises:
        JobError: `not_a_model` if the archive has no `forward`.
    """
    if isinstance(model, fx.GraphModule):
        return [
            Argument(printable(str(node.target), _NAME_CHARACTERS), "Tensor", None)
            for node in placeholders(model)
        ]
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


def placeholders(model: fx.GraphModule) -> list[fx.Node]:
    """The inputs of an exported program."""
    return [node for node in model.graph.nodes if node.op == "placeholder"][:_ARGUMENTS]


def _default(value: object) -> str:
    return printable(repr(value), _NAME_CHARACTERS)

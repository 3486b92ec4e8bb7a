"""What a model takes, as its archive says it, and how it is called with a batch of tensors."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch.utils._pytree as pytree
from torch import Tensor, fx, nn

from service.contract.failures import FailureCode
from workers.extraction.refusals import Refusal, printable, refuse
from workers.protocol.errors import JobError

_ARGUMENTS = 64
_NAME_CHARACTERS = 100
_TENSOR_TYPES = ("Tensor", "Optional[Tensor]", "Any", "Union[")


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a model's `forward`; of an exported program, one leaf of its call.

    Attributes:
        name: Its name in the source. A value inside a dictionary or list is named by its path:
            `batch.x`, `images.0`.
        type: Its type as TorchScript writes it, such as `Tensor` or `Optional[Tensor]`.
        default: Its default value in words; `None` if it has none, and so must be given. An
            exported program was made with one value of whatever is no tensor, and takes no other.
    """

    name: str
    type: str
    default: str | None

    @property
    def is_tensor(self) -> bool:
        """Whether a tensor can be passed for it."""
        return self.type.startswith(_TENSOR_TYPES)

    @property
    def key(self) -> str:
        """The last part of its name: that of the value itself."""
        return self.name.rpartition(".")[2]


_Call = Callable[[Sequence[Tensor]], tuple[Sequence[object], Mapping[str, object]]]
"""From a batch to the positional and keyword arguments of a model."""


class Called(nn.Module):
    """A model that is called with one tensor for each of some arguments, whatever it is called by.

    Its parameters and buffers are those of the model, under the model's own names.

    Args:
        model: The model.
        given: Positions, among `read_arguments(model)`, of the arguments that are given.
    """

    def __init__(self, model: nn.Module, given: Sequence[int]) -> None:
        super().__init__()
        # Not as a submodule, which would put a prefix to every parameter's name.
        object.__setattr__(self, "model", model)
        self._call = (
            _exported_call(model, given)
            if isinstance(model, fx.GraphModule)
            else _scripted_call(model, given)
        )

    def forward(self, *batch: Tensor) -> object:
        """Call the model."""
        args, kwargs = self._call(batch)
        return self.__dict__["model"](*args, **kwargs)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield those of the model."""
        yield from self.__dict__["model"].named_parameters(*args, **kwargs)

    def named_buffers(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, Tensor]]:
        """Yield those of the model."""
        yield from self.__dict__["model"].named_buffers(*args, **kwargs)


def _scripted_call(model: nn.Module, given: Sequence[int]) -> _Call:
    if [*given] == [*range(len(given))]:
        return lambda batch: (batch, {})
    arguments = read_arguments(model)
    names = [arguments[position].name for position in given]
    return lambda batch: ((), dict(zip(names, batch, strict=True)))


def _exported_call(model: fx.GraphModule, given: Sequence[int]) -> _Call:
    spec = _call_spec(model)
    recorded = [leaf.value for leaf in _leaves(model)]

    def call(batch: Sequence[Tensor]) -> tuple[Sequence[object], Mapping[str, object]]:
        leaves = list(recorded)
        for position, tensor in zip(given, batch, strict=True):
            leaves[position] = tensor
        args, kwargs = pytree.tree_unflatten(leaves, spec)
        return args, kwargs

    return call


def _call_spec(model: fx.GraphModule) -> pytree.TreeSpec:
    """Return how the call of an exported program nests its values: torch keeps it private."""
    return cast("pytree.TreeSpec", cast("Any", model)._in_spec)  # noqa: SLF001 - there is no public name


def as_saved(model: nn.Module) -> nn.Module:
    """Return the model itself, without the way in which it is called."""
    return cast("nn.Module", model.__dict__["model"]) if isinstance(model, Called) else model


def read_arguments(model: nn.Module) -> list[Argument]:
    """Read the arguments of `forward`.

    Raises:
        JobError: `not_a_model` if the archive has no `forward`.
    """
    model = as_saved(model)
    if isinstance(model, fx.GraphModule):
        return [leaf.argument for leaf in _leaves(model)]
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
            default=_words(argument.default_value) if argument.has_default_value() else None,
        )
        for argument in schema.arguments[1 : _ARGUMENTS + 1]
    ]


def tensor_positions(arguments: Sequence[Argument]) -> list[int]:
    """Return where in a list of arguments those are that a tensor can be passed for.

    Raises:
        JobError: `input_mismatch` if there are none, or something else must be given, too.
    """
    for argument in arguments:
        if not argument.is_tensor and argument.default is None:
            raise _unfillable(argument)
    found = [position for position, argument in enumerate(arguments) if argument.is_tensor]
    if not found:
        raise _takes_nothing()
    return found


@dataclass(frozen=True, slots=True)
class _Leaf:
    """One value in the call that a program was exported with.

    Attributes:
        position: Among all of them, as the call is flattened.
        argument: What it is.
        node: Its node in the graph.
        value: What it was, unless it was a tensor.
    """

    position: int
    argument: Argument
    node: fx.Node
    value: object


def _leaves(model: fx.GraphModule) -> list[_Leaf]:
    nodes = model.graph.find_nodes(op="placeholder")
    named: Sequence[str] = cast("Any", model.graph)._codegen.pytree_info.orig_args  # noqa: SLF001 - there is no public name for it
    names = _names(_call_spec(model), named)
    leaves = []
    for position, (name, node) in enumerate(zip(names, nodes, strict=True)):
        value = node.meta.get("val")
        is_tensor = isinstance(value, Tensor)
        argument = Argument(
            name=printable(name, _NAME_CHARACTERS),
            type="Tensor" if is_tensor else type(value).__name__,
            default=None if is_tensor else _words(value),
        )
        leaves.append(_Leaf(position, argument, node, None if is_tensor else value))
    return leaves


def _names(spec: pytree.TreeSpec, arguments: Sequence[str]) -> Iterator[str]:
    """Yield the names of a call's leaves, in order, each by its path."""
    numbered = pytree.tree_unflatten([*range(spec.num_leaves)], spec)
    for path, _ in pytree.tree_flatten_with_path(numbered)[0]:
        kind, top, *inner = (_entry(entry) for entry in path)
        # The first entry tells positional from keyword arguments, the second one counts or names.
        first = arguments[int(top)] if kind == "0" else top
        yield ".".join([first, *inner])


def _entry(entry: Any) -> str:
    """Return one step of a path: an index, a key, or the name of an attribute."""
    return str(next(getattr(entry, a) for a in ("idx", "key", "name") if hasattr(entry, a)))


def exported_inputs(model: nn.Module) -> Mapping[int, Tensor]:
    """Return what a program was exported with, by position: tensors with the true shapes.

    Sizes that may vary are symbols. Empty for a model that is no exported program.
    """
    model = as_saved(model)
    if not isinstance(model, fx.GraphModule):
        return {}
    values = {leaf.position: leaf.node.meta.get("val") for leaf in _leaves(model)}
    return {position: value for position, value in values.items() if isinstance(value, Tensor)}


def _unfillable(argument: Argument) -> JobError:
    return JobError(
        FailureCode.INPUT_MISMATCH,
        f"`forward` needs the argument `{argument.name}` of type {argument.type}; expected "
        "tensors, and default values for everything else.",
        hint="Save the model inside one whose forward takes tensors alone.",
        detail={"argument": argument.name, "type": argument.type},
    )


def _takes_nothing() -> JobError:
    return JobError(
        FailureCode.INPUT_MISMATCH,
        "`forward` takes no tensor; expected the inputs of a batch as its first argument.",
        hint="Save a model whose forward takes its inputs.",
    )


def _words(value: object) -> str:
    return printable(repr(value), _NAME_CHARACTERS)

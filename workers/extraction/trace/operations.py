"""What the tape must know of an operation, read once from its schema."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._ops import OpOverload


@dataclass(frozen=True, slots=True)
class Operation:
    """One overload of an operation.

    Attributes:
        name: Qualified name without the overload, such as `aten::linear`.
        arguments: Names of all arguments in the order of the schema.
        defaults: Their default values, `None` where there is none.
        writes: Names of the arguments that the operation changes in place.
        seeded: It draws from a random number generator.
    """

    name: str
    arguments: tuple[str, ...]
    defaults: Mapping[str, object]
    writes: tuple[str, ...]
    seeded: bool


@functools.cache
def describe(func: OpOverload) -> Operation:
    """Read the schema of an operation."""
    schema = func._schema  # noqa: SLF001 - torch has no public access to schemas
    return Operation(
        name=schema.name,
        arguments=tuple(a.name for a in schema.arguments),
        defaults={a.name: a.default_value for a in schema.arguments},
        writes=tuple(a.name for a in schema.arguments if a.alias_info and a.alias_info.is_write),
        seeded=torch.Tag.nondeterministic_seeded in func.tags,
    )


@dataclass(frozen=True, slots=True)
class Step:
    """One execution of an operation.

    Attributes:
        index: Position in the tape, from 0.
        func: The overload that ran.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        outputs: The tensors it returned, in order.
    """

    index: int
    func: OpOverload
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    outputs: tuple[Tensor, ...]

    @property
    def operation(self) -> Operation:
        """The schema of what ran."""
        return describe(self.func)

    @property
    def name(self) -> str:
        """Qualified name without the overload."""
        return self.operation.name

    def argument(self, name: str) -> object:
        """Return an argument's value or default; `None` if the operation has no such argument."""
        operation = self.operation
        if name not in operation.arguments:
            return None
        position = operation.arguments.index(name)
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, operation.defaults[name])

    def tensors(self) -> list[Tensor]:
        """Return all tensors among the arguments."""
        return list(tensors_in((*self.args, *self.kwargs.values())))

    def replay(self, values: Mapping[int, Tensor]) -> tuple[Tensor, ...]:
        """Run the step again with other values in place of some tensors, by their identity.

        An in-place operation works on copies; nothing that was recorded changes.
        """
        writes = bool(self.operation.writes)
        given = {key: value.clone() if writes else value for key, value in values.items()}

        def swap(argument: object) -> object:
            if isinstance(argument, (list, tuple)):
                return [given.get(id(item), item) for item in argument]
            return given.get(id(argument), argument)

        kwargs = {key: swap(a) for key, a in self.kwargs.items()}
        return tuple(tensors_in((self.func(*map(swap, self.args), **kwargs),)))


def tensors_in(values: tuple[object, ...]) -> Iterator[Tensor]:
    """Yield tensors among arguments or results: operations nest them one list deep at most."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from (item for item in value if isinstance(item, Tensor))

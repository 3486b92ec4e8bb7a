"""Making a TorchScript program do here what it does where it was made: its device, its autocast.

Both are settled in the graph of `forward`, before it first runs. A program that names no device but
its own, and has no autocast, is left as it is.
"""

from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from typing import Any, cast

import torch

from workers.extraction.refusals import Refusal, refuse
from workers.protocol.requests import Device

_DEVICE_TYPES = ("Device", "Optional[Device]")
_MOVES = {"aten::cuda": "cuda", "aten::cpu": "cpu"}
_MAYBE_TENSOR = "Optional[Tensor]"
_AUTOCAST = ".amp.autocast_mode."


def make_ready(model: torch.jit.ScriptModule, device: Device) -> tuple[str, ...]:
    """Have a loaded program use the device it is on, and carry out its regions of autocast.

    Args:
        model: As it was loaded; it has not run yet.
        device: Where its tensors are.

    Returns:
        What a reader of its figures must know, each as `code: sentence`.

    Raises:
        JobError: `not_a_model` if what a region of autocast does is not settled in the program.
    """
    inner = cast("Any", model)._c  # noqa: SLF001 - torch shows graphs nowhere else
    method = inner._get_method("forward")  # noqa: SLF001 - as above
    seen = _Program(inner, method, method.graph.copy())
    named, cast_on = set(seen.foreign_devices(device)), set(seen.autocast_devices())
    if named or cast_on & {device, None}:
        program = _Program(inner, method, method.graph)
        program.use(device)
        if cast_on & {device, None}:
            program.settle_autocast()
    idle = [str(each) for each in cast_on - {device, None}]
    return tuple(chain(remapped(named, device), _not_cast(idle, device)))


def remapped(named: Collection[str], device: Device) -> Iterator[str]:
    """Warn that a program ran elsewhere than it says.

    Args:
        named: The other devices that it names.
        device: Where it ran.
    """
    if named:
        yield (
            f"device_remapped: the program was made on another device and names it: "
            f"{', '.join(sorted(named))}. Here it ran on {device} throughout."
        )


def _not_cast(idle: Collection[str], device: Device) -> Iterator[str]:
    if idle:
        yield (
            f"autocast_idle: regions of torch.autocast are for {', '.join(sorted(idle))}, and cast "
            f"nothing on {device}: what they hold ran in the precision of its weights, as it does "
            f"on {device} in PyTorch."
        )


class _Program:
    """A graph with all that it calls put in its place.

    Args:
        model: Whose attributes it reads, as torch's core holds it.
        method: Whose graph it is.
        graph: That graph, or a copy; it is changed.
    """

    def __init__(self, model: Any, method: Any, graph: Any) -> None:
        self._graph = graph
        self._graphs = list(_inlined(graph))
        taken = [
            model,
            *(argument.default_value for argument in method.schema.arguments[1:]),
        ]
        names = [value.debugName() for value in graph.inputs()]
        self._given: Mapping[str, object] = dict(zip(names, taken, strict=True))

    def foreign_devices(self, device: Device) -> Iterator[str]:
        """Yield devices it names, other than where it is to run."""
        for graph in self._graphs:
            for node in _nodes(graph):
                yield from (name for _, name in self._foreign(node, device))

    def autocast_devices(self) -> Iterator[str | None]:
        """Yield the devices that its autocast regions are for, None where that is not settled."""
        for graph in self._graphs:
            for node in _nodes(graph):
                if _sets_autocast(node) and node.s("name") == "device":
                    found = self._value(node.inputsAt(1))
                    yield found if isinstance(found, str) else None

    def use(self, device: Device) -> None:
        """Put a device in the place of all others."""
        for graph in self._graphs:
            for node in list(_nodes(graph)):
                for value, _ in list(self._foreign(node, device)):
                    if node.kind() in _MOVES:
                        value.replaceAllUsesWith(node.inputsAt(0))
                    else:
                        self._replace(graph, node, value, torch.device(device))
                    if node.kind() in {*_MOVES, "aten::device"}:
                        node.destroy()  # it would fail, though nobody uses what it gives

    def settle_autocast(self) -> None:
        """Write the casts into the graph, as torch does before it optimises one."""
        for graph in self._graphs:
            for node in list(_nodes(graph)):
                if node.kind() == "prim::GetAttr" and str(node.output().type()) == _MAYBE_TENSOR:
                    # The bias of a convolution is one. torch casts none that may be None.
                    if isinstance(self._value(node.output()), torch.Tensor):
                        node.output().setType(torch._C.TensorType.get())  # noqa: SLF001 - see _pass
                elif _sets_autocast(node):
                    value = self._value(node.inputsAt(1))
                    if value is not None:
                        with graph.insert_point_guard(node):
                            node.replaceInput(1, graph.insertConstant(value))
            _pass("peephole", graph, True)
            _pass("constant_propagation_immutable_types", graph)
            try:
                _pass("autocast", graph)
            except RuntimeError as error:
                raise refuse(
                    Refusal.LOAD_FAILED,
                    "A region of torch.autocast is switched on, or given its dtype, by a value "
                    "that the archive does not fix; TorchScript runs none like that.",
                    hint="Write the device, dtype and enabled of torch.autocast as constants, or "
                    "save the model with torch.jit.trace or torch.export.",
                ) from error

    def _foreign(self, node: Any, device: Device) -> Iterator[tuple[Any, str]]:
        """Yield values of a node by which it names another device, and its name."""
        if node.kind() in _MOVES:
            if _MOVES[node.kind()] != device:
                yield node.output(), _MOVES[node.kind()]
            return
        for value in node.outputs():
            if str(value.type()) in _DEVICE_TYPES:
                name = self._value(value)
                if isinstance(name, torch.device) and _differs(name, device):
                    yield value, str(name)

    def _replace(self, graph: Any, node: Any, value: Any, device: torch.device) -> None:
        at = next(iter(graph.nodes())) if node.kind() == "prim::Param" else node
        with graph.insert_point_guard(at):
            value.replaceAllUsesWith(graph.insertConstant(device))

    def _value(self, value: Any) -> object:
        """Return what a value is whenever the program runs; None where that is not settled."""
        node = value.node()
        kind = node.kind()
        if kind == "prim::Param":
            return self._given.get(value.debugName())
        if kind == "prim::Constant":
            return cast("object", value.toIValue())
        if kind == "prim::GetAttr":
            owner: Any = self._value(node.inputsAt(0))
            known = owner is not None and owner.hasattr(node.s("name"))
            return cast("object", owner.getattr(node.s("name"))) if known else None
        if kind == "aten::device":
            return _device(*map(self._value, node.inputs()))
        return None


def _pass(name: str, graph: Any, *options: bool) -> None:
    """Rewrite a graph in place, as one of torch's own passes does."""
    getattr(torch._C, f"_jit_pass_{name}")(graph, *options)  # noqa: SLF001 - they are public nowhere


def _inlined(graph: Any) -> Iterator[Any]:
    """Yield a graph and those of the tasks it starts, all that they call put in its place."""
    _pass("inline", graph)
    yield graph
    for node in _nodes(graph):
        for name in node.attributeNames():
            if node.kindOf(name) == "g":
                yield from _inlined(node.g(name))


def _nodes(block: Any) -> Iterator[Any]:
    """Yield all nodes, those of nested blocks and the one of the inputs included."""
    if hasattr(block, "param_node"):
        yield block.param_node()
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _sets_autocast(node: Any) -> bool:
    return node.kind() == "prim::SetAttr" and _AUTOCAST in str(node.inputsAt(0).type())


def _device(name: object, index: object = None) -> torch.device | None:
    if not isinstance(name, str):
        return None
    try:
        return torch.device(name, index) if isinstance(index, int) else torch.device(name)
    except RuntimeError:  # whatever it is, the model says so when it runs
        return None


def _differs(named: torch.device, device: Device) -> bool:
    return named.type not in {device, "meta"} or named.index not in {None, 0}

"""What running a model changes of the model itself: it is judged as it was saved.

Buffers that a run writes to, such as those of a layer that takes its scale from the first batch it
sees, would make answers depend on the samples before, and on how often the model was tried.
"""

from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor, nn

_LISTED = 8


class Buffers:
    """A model's buffers as they are at some moment.

    Args:
        model: The model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        with torch.inference_mode():
            self._kept = {name: b.clone() for name, b in model.named_buffers() if _is_plain(b)}

    @torch.inference_mode()
    def changed(self) -> list[str]:
        """Return the names of those that hold other values now."""
        now = dict(self._model.named_buffers())
        return [name for name, kept in self._kept.items() if not _same(kept, now.get(name))]

    @torch.inference_mode()
    def put_back(self) -> None:
        """Give those that changed the values that they had."""
        now = dict(self._model.named_buffers())
        for name in self.changed():
            if name in now and now[name].shape == self._kept[name].shape:
                now[name].copy_(self._kept[name])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.put_back()


def _is_plain(buffer: Tensor) -> bool:
    """Return whether its values can be compared; sparse and quantized ones are mostly constants."""
    return buffer.layout is torch.strided and not buffer.is_quantized


def _same(one: Tensor, other: Tensor | None) -> bool:
    return other is not None and torch.equal(one.nan_to_num(), other.nan_to_num())


def written(model: nn.Module, before: Buffers) -> list[str]:
    """Return what runs of a model write to of the model itself, by name.

    Args:
        model: The model, after it has run.
        before: Its buffers as they were before that.

    Returns:
        Buffers whose values changed, and attributes that a scripted program assigns to.
    """
    program = model.__dict__.get("model", model)  # of a model as it is called, the model
    graph = getattr(program, "inlined_graph", None)
    # The graph is held on to: its nodes do not keep it.
    nodes = [] if graph is None else graph.findAllNodes("prim::SetAttr")
    # An object that the run makes itself, such as an autocast, is nothing that the model holds.
    kept = [node for node in nodes if next(node.inputs()).node().kind() != "prim::CreateObject"]
    assigned = (str(node.s("name")) for node in kept)
    return list(dict.fromkeys((*before.changed(), *assigned)))


def stateful(model: nn.Module, saved: Buffers) -> Iterator[str]:
    """Yield the warning of a model that changes what it holds itself."""
    if names := written(model, saved):
        listed = ", ".join(f"`{name}`" for name in names[:_LISTED])
        yield (
            f"stateful: running the model changes what it holds itself, {listed}"
            f"{' …' * (len(names) > _LISTED)}, so a sample's features may depend on the samples "
            "that were run before it, and on their order."
        )

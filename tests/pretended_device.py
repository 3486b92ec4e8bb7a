"""A second device, where there is none: tensors that say they are elsewhere and refuse to be mixed.

Their numbers are on the CPU, and every operation on them is carried out there. But one that would
fail on a GPU for being given tensors of both devices fails here too, and so does looking at them as
an array before they are copied back.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

# It holds no numbers, so torch gives none away by mistake; and it needs no driver.
ELSEWHERE = torch.device("meta")
_CPU = torch.device("cpu")

_COPIES = {"_to_copy", "to", "copy_", "cpu"}
# Places are looked up on either device.
_TAKES_PLACES = {"index", "index_put", "index_put_"}


class _Elsewhere(Tensor):
    """A tensor on the second device."""

    inner: Tensor

    @staticmethod
    def __new__(cls: type[Self], inner: Tensor) -> Self:
        made: Self = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=ELSEWHERE,
        )
        made.inner = inner
        return made

    # What torch does not hand on to subclasses.
    def tolist(self) -> Any:
        return self.inner.tolist()

    def new_tensor(self, data: Any, **options: Any) -> Tensor:
        return torch.tensor(data, dtype=self.dtype, device=ELSEWHERE, **options)

    @classmethod
    def __torch_dispatch__(
        cls,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return _carry_out(func, args, kwargs or {})


@contextmanager
def second_device() -> Iterator[torch.device]:
    """Within, the device that is given is one like another."""
    with _Making(), _Working():
        yield ELSEWHERE


class _Making(TorchFunctionMode):
    """Tensors of plain numbers, which torch makes on that device without another word."""

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") == ELSEWHERE:
            return _moved(func(*tree_map(_inner, args), **tree_map(_inner, kwargs)))
        return func(*args, **kwargs)


class _Working(TorchDispatchMode):
    """Whatever is made there, or copied to it."""

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        is_wanted = ELSEWHERE in _devices(args, kwargs)
        return _carry_out(func, args, kwargs) if is_wanted else func(*args, **kwargs)


def _carry_out(func: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    name = func.overloadpacket.__name__
    given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
    checked = given[:1] if name in _TAKES_PLACES else given
    if name not in _COPIES:
        # Single numbers go with tensors of any device.
        strangers = [each for each in checked if each.ndim and not isinstance(each, _Elsewhere)]
        if strangers and any(isinstance(each, _Elsewhere) for each in given):
            shapes = [tuple(each.shape) for each in strangers]
            raise RuntimeError(f"{name}: tensors on both devices, these on the CPU: {shapes}")
    wanted = _devices(args, kwargs)
    comes_back = name == "cpu" or (bool(wanted) and ELSEWHERE not in wanted)
    if name == "copy_":
        comes_back = not isinstance(given[0], _Elsewhere)
    args, kwargs = tree_map(_inner, (args, dict(kwargs)))
    with torch.inference_mode(mode=False), torch.no_grad():
        found = func(*args, **kwargs)
        return found if comes_back else tree_map(_moved, found)


def _devices(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[torch.device]:
    leaves = tree_leaves((args, dict(kwargs)))
    return [each for each in leaves if isinstance(each, torch.device)]


def _inner(value: Any) -> Any:
    if isinstance(value, _Elsewhere):
        return value.inner
    return _CPU if value == ELSEWHERE and isinstance(value, torch.device) else value


def _moved(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    # Of inference tensors, which come from models, subclasses have no views.
    return _Elsewhere(value.clone() if value.is_inference() else value)

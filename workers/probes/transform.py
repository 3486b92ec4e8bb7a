"""A spec's transform, applied to one batch at a time."""

import math
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from service.contract.failures import FailureCode
from service.contract.probe_spec import InputDtype
from service.contract.transform import Transform
from workers.probes.containers.container import shape_text, unreadable
from workers.protocol.errors import JobError


class BatchTransform:
    """Turns stored rows into the tensor a model is given.

    Args:
        transform: What to do. Without a dtype the stored one is kept, unless whole numbers are to
            be calculated with: that happens in float32.
        stored_shape: Shape of the whole stored array, samples first.
        stored_dtype: Its numpy dtype.

    Raises:
        JobError: `probe_unreadable` if the layout or the channels do not fit the array.
    """

    def __init__(
        self,
        transform: Transform,
        stored_shape: tuple[int, ...],
        stored_dtype: np.dtype[np.generic],
    ) -> None:
        self._axes = self._check_axes(transform, stored_shape)
        shape = tuple(stored_shape[axis] for axis in self._axes)
        self.input_shape = shape[1:]
        self.dtype = cast("InputDtype", transform.dtype or _unsaid_dtype(transform, stored_dtype))
        self._dtype: torch.dtype = getattr(torch, self.dtype)
        # Half precisions have too few digits to calculate in; pipelines convert last, too.
        is_half = self._dtype in {torch.float16, torch.bfloat16}
        self._working = torch.float32 if is_half else self._dtype
        self._scale = transform.scale
        self._mean = self._per_channel("mean", transform.mean, transform, shape)
        self._std = self._per_channel("std", transform.std, transform, shape)

    def __call__(self, rows: npt.NDArray[np.generic]) -> torch.Tensor:
        """Transform some rows of the stored array.

        Returns:
            A new contiguous tensor of shape (rows, *input_shape), sharing no memory with `rows`.
        """
        stored = torch.from_numpy(rows).permute(self._axes)
        batch = torch.empty(stored.shape, dtype=self._working).copy_(stored)
        if self._scale is not None:
            batch.mul_(self._scale)
        if self._mean is not None:
            batch.sub_(self._mean)
        if self._std is not None:
            batch.div_(self._std)
        return batch.to(self._dtype)

    def _per_channel(
        self,
        key: str,
        values: list[float] | None,
        transform: Transform,
        shape: tuple[int, ...],
    ) -> torch.Tensor | None:
        if values is None:
            return None
        along = [1] * len(shape)
        if len(values) > 1:
            axis = transform.channel_axis
            channels = shape[axis] if axis < len(shape) else 1
            if len(values) != channels:
                raise unreadable(
                    f"{key} has {len(values)} values, but axis {axis} of the inputs "
                    f"{shape_text(shape)} has {channels} channels; expected {channels} or 1.",
                    hint="Give one value per channel, and state the layout if the channels come "
                    "last (for images: 'NHWC->NCHW').",
                    detail={"values": len(values), "channels": channels},
                )
            along[axis] = channels
        return torch.tensor(values, dtype=self._working).reshape(along)

    @staticmethod
    def _check_axes(transform: Transform, stored_shape: tuple[int, ...]) -> tuple[int, ...]:
        axes = transform.axes
        if axes is None:
            return tuple(range(len(stored_shape)))
        if len(axes) != len(stored_shape):
            raise unreadable(
                f"The layout {transform.layout!r} has {len(axes)} axes, but the inputs are stored "
                f"as {shape_text(stored_shape)}.",
                hint="Give one letter per stored axis, or leave the layout out.",
            )
        return axes


def _unsaid_dtype(transform: Transform, stored: np.dtype[np.generic]) -> str:
    """Return the dtype as stored; but what is calculated from whole numbers is no whole number."""
    calculates = (transform.scale, transform.mean, transform.std) != (None, None, None)
    is_float = np.issubdtype(stored, np.floating)
    return "float32" if calculates and not is_float else stored.name


def check_finite(
    name: str,
    stored: npt.NDArray[np.generic],
    batch: torch.Tensor,
    positions: npt.NDArray[np.int64],
) -> None:
    """Refuse NaN and Inf, telling those that were stored from those the transform made.

    Args:
        name: The array's name, for the message.
        stored: The rows as they are stored.
        batch: The same rows after the transform.
        positions: Where in the file each of them is.

    Raises:
        JobError: `non_finite`, with the first row concerned.
    """
    # One sum finds every NaN and infinity at a tenth of the cost, and rarely overflows.
    if batch.is_floating_point() and math.isfinite(float(batch.sum())):
        return
    if bool(torch.isfinite(batch).all()):
        return
    is_stored = not bool(torch.isfinite(torch.from_numpy(stored)).all())
    faulty = torch.from_numpy(stored) if is_stored else batch
    bad_rows = ~torch.isfinite(faulty).reshape(len(faulty), -1).all(dim=1)
    row = int(positions[int(bad_rows.nonzero()[0])])
    raise JobError(
        FailureCode.NON_FINITE,
        f"The inputs {name!r} hold NaN or Inf, first in row {row}."
        if is_stored
        else f"The transform makes row {row} of {name!r} NaN or Inf, though it is stored finite.",
        hint="Remove or repair the row."
        if is_stored
        else "Check scale, mean and std, and use a wider dtype than "
        f"{str(batch.dtype).removeprefix('torch.')}.",
        detail={"array": name, "row": row},
    )

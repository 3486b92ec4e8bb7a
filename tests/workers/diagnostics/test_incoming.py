import pytest
import torch

from workers.diagnostics import IncompatibleShapesError, NonFiniteError
from workers.diagnostics.incoming import check_finite, samples

LARGE = 3e38
"""Finite in float32, and the sum of two is not."""


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_single_bad_value_is_found(bad: float, dtype: torch.dtype) -> None:
    values = torch.ones(9, 4, dtype=dtype)
    values[7, 2] = bad
    with pytest.raises(NonFiniteError, match="The features of 1 of 9 samples"):
        check_finite("features", values)


def test_infinities_that_cancel_are_found() -> None:
    values = torch.zeros(3, 2)
    values[0, 0], values[2, 1] = float("inf"), -float("inf")
    with pytest.raises(NonFiniteError, match="of 2 of 3 samples"):
        check_finite("features", values)


def test_values_whose_sum_overflows_are_finite() -> None:
    values = torch.full((2, 2), LARGE)
    assert values.sum().isinf()
    assert samples("features", values, (2, 2)).tolist() == values.double().tolist()


def test_another_shape_is_refused() -> None:
    with pytest.raises(IncompatibleShapesError, match=r"shape \(2, 3\), expected \(2, 2\)"):
        samples("features", torch.ones(2, 3), (2, 2))

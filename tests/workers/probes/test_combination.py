import numpy as np
import pytest
import torch

from service.contract.transform import Transform
from workers.probes.combination import combine
from workers.probes.transform import BatchTransform

IMAGES = np.random.default_rng(0).integers(256, size=(4, 5, 6, 3), dtype=np.uint8)
NORMALISED = {"dtype": "float32", "scale": 1 / 255, "mean": [0.1, 0.2, 0.3], "std": [1, 2, 3]}


def apply(transform: Transform, rows: np.ndarray) -> torch.Tensor:
    return BatchTransform(transform, rows.shape, rows.dtype)(rows)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"dtype": "float32", "scale": 0.5}),
        ({"layout": "NHWC->NCHW"}, {"dtype": "float32", "scale": 0.5}),
        ({"dtype": "uint8"}, {"layout": "NHWC->NCHW", "dtype": "float16"}),
        ({"layout": "NHWC->NCHW"}, {"layout": "NCHW->NHWC"}),
        ({"layout": "NHWC->NCHW"}, {"layout": "NHWC->NCHW"}),
        ({"layout": "NHWC->NCHW", **NORMALISED}, {"layout": "NCHW->NHWC", "dtype": "float64"}),
        ({"layout": "NHWC->NCHW", **NORMALISED}, {"layout": "NCHW->NHWC"}),
        ({"dtype": "float32", "scale": 1 / 255}, {"dtype": "float64"}),
    ],
)
def test_one_transform_does_what_two_do(first: object, second: object) -> None:
    one, two = (Transform.model_validate(transform) for transform in (first, second))
    expected = apply(two, apply(one, IMAGES).numpy())
    found = apply(combine(one, two), IMAGES)
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected)


def test_layouts_that_undo_each_other_are_left_out() -> None:
    there, back = Transform(layout="NHWC->NCHW"), Transform(layout="NCHW->NHWC")
    assert combine(there, back) == Transform()


def test_integers_of_what_was_calculated_are_refused() -> None:
    with pytest.raises(ValueError, match="use dtype 'float32'"):
        combine(Transform(dtype="float32", scale=2), Transform(dtype="int64"))

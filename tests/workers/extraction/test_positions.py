"""Which axes of a model's answer positions run along, in the order of the rows of Φ."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from workers.extraction import discover

Archive = Callable[..., nn.Module]

SAMPLES = 12


class Dense(nn.Module):
    """Answers for each of 5 × 7 positions, laid out by a function."""

    def __init__(self, outputs: int, layout: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Conv2d(2, 6, 1), nn.ReLU())
        self.head = nn.Conv2d(6, outputs, 1)
        self.layout = layout

    def forward(self, x: Tensor) -> Tensor:
        return self.layout(self.head(self.trunk(x)))


@pytest.mark.parametrize(
    ("outputs", "layout", "shape"),
    [
        (3, lambda u: u, (5, 7)),
        (1, lambda u: u, (5, 7)),
        (1, lambda u: u[:, 0], (5, 7)),
        (3, lambda u: u.flatten(2), (35,)),
        (3, lambda u: u.permute(0, 2, 3, 1), (5, 7)),
        (3, lambda u: u.transpose(2, 3), (7, 5)),
        (3, lambda u: u.softmax(1).transpose(2, 3), (7, 5)),
        (3, lambda u: u.sigmoid().permute(2, 3, 0, 1), (5, 7)),
        (3, lambda u: u.mean((2, 3)), ()),
        (3, lambda u: u.mean(2), (7,)),
    ],
)
def test_positions_run_along_the_axes_of_the_answer(
    outputs: int, layout: Callable[[Tensor], Tensor], shape: tuple[int, ...], archive: Archive
) -> None:
    x = torch.randn(SAMPLES, 2, 5, 7)
    model = Dense(outputs, layout).eval()
    found = discover(archive(model, x, "traced"), (x,)).feature_map
    assert found.position_shape == shape
    assert found.positions == torch.Size(shape).numel()

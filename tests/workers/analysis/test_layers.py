"""Which layers' sums fit, and what is said of the others."""

import io
import itertools
import json

import pytest
import torch
from support import scripted
from torch import nn

from service.contract.limits import MAX_LAYERS
from service.report.layers import Layer
from workers.analysis.layers import LayerPass
from workers.extraction import Extractor, discover, load_model

MIB = 1 << 20


def prepared(
    net: nn.Module, x: torch.Tensor, budget: int = 256 * MIB
) -> tuple[Extractor, LayerPass]:
    model = load_model(io.BytesIO(scripted(net)))
    extractor = discover(model, (x,))
    return extractor, LayerPass.prepare(model, extractor, (x,), budget, n=len(x))


def figures(
    net: nn.Module, x: torch.Tensor, budget: int = 256 * MIB
) -> tuple[list[Layer], list[str]]:
    extractor, layers = prepared(net, x, budget)
    layers.add(extractor.run((x,), layers.tap).outputs, None)
    found = [
        Layer.model_validate_json(json.dumps(entry))
        for entry in layers.figures(output_tolerance=1e-6)
    ]
    return found, layers.warnings


def chain(*widths: int) -> nn.Sequential:
    torch.manual_seed(0)
    modules = [
        module
        for inside, outside in itertools.pairwise(widths)
        for module in (nn.Linear(inside, outside), nn.ReLU())
    ]
    return nn.Sequential(*modules, nn.Linear(widths[-1], 5))


def test_the_widest_layers_are_left_out_when_memory_is_short() -> None:
    x = torch.randn(40, 8)
    found, warnings = figures(chain(8, 32, 400, 16, 300), x, budget=10 * MIB)
    assert [(layer.name, layer.p) for layer in found] == [("0", 32), ("4", 16), ("6", 300)]
    assert len(warnings) == 1
    assert warnings[0].startswith("layers_too_wide:")
    assert "the widest layers: 2 (p = 400). Sums over all layers may take 10 MiB" in warnings[0]
    assert "diagonalizing the widest takes 10 MiB;" in warnings[0]
    everything, warnings = figures(chain(8, 32, 400, 16, 300), x)
    assert [layer.p for layer in everything] == [32, 400, 16, 300]
    assert warnings == []


def test_the_widest_layers_have_no_intervals_when_memory_is_short() -> None:
    x = torch.randn(40, 8)
    wide = chain(8, 32, *[200] * 6, 16)
    found, warnings = figures(wide, x, budget=4 * MIB)
    assert [layer.p for layer in found] == [32, *[200] * 6, 16]
    with_intervals = [layer for layer in found if layer.confidence_interval is not None]
    assert [layer.p for layer in with_intervals] == [32, 200, 16]
    for layer in found:
        ranks = layer.effective_rank
        assert ranks is not None
        assert (ranks.confidence_interval is None) == (layer.confidence_interval is None)
    (warning,) = warnings
    assert warning.startswith("layers_without_intervals:")
    assert "12 (p = 200)" in warning
    entire, warnings = figures(wide, x)
    assert warnings == []
    for mine, other in zip(found, entire, strict=True):
        assert mine.d_lr == pytest.approx(other.d_lr)


class Loop(nn.Module):
    """Runs one layer more often than a report has room for."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.fc = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(1100):
            x = torch.tanh(self.cell(x))
        return self.fc(x)


def test_the_number_of_layers_is_bounded() -> None:
    found, warnings = figures(Loop(), torch.randn(20, 3))
    assert len(found) == MAX_LAYERS
    assert found[1].name == "cell #2"
    assert "cell #1100 (p = 3)" in warnings[0]
    assert "and 71 more" in warnings[0]


class Diverging(nn.Module):
    """A side branch overflows; the answer does not."""

    def __init__(self) -> None:
        super().__init__()
        self.side, self.trunk, self.fc = nn.Linear(8, 6), nn.Linear(8, 7), nn.Linear(7, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        side = torch.exp(1e4 + self.side(x))
        gate = (side > 0).to(torch.float32).mean()
        return self.fc(torch.relu(self.trunk(x)) * gate)


def test_a_layer_that_overflows_is_left_out_alone() -> None:
    found, warnings = figures(Diverging(), torch.randn(20, 8))
    assert [layer.name for layer in found] == ["trunk"]
    assert len(warnings) == 1
    assert warnings[0].startswith("layers_not_finite:")
    assert warnings[0].endswith("NaN or infinity on the probe: side.")


@pytest.mark.parametrize("inputs", [torch.zeros(20, 8), torch.ones(20, 8)])
def test_a_layer_that_does_not_vary_has_an_entry(inputs: torch.Tensor) -> None:
    dead = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 5))
    nn.init.constant_(dead[0].bias, -100.0)
    found, warnings = figures(dead, inputs)
    assert warnings == []
    assert [(layer.rank, layer.effective_rank, layer.d_lr) for layer in found] == [(0, None, None)]

"""Every layer's features against forward hooks on the eager module, in archives of every kind."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from authored import settled
from layered import (
    Attention,
    Flattened,
    Gated,
    HandNorm,
    Product,
    Recurrent,
    ResNet,
    Shared,
    Swish,
    TanhGelu,
)
from torch import Tensor, nn

from workers.extraction import Extracted, discover
from workers.extraction.layers.watching import FoundLayers, LayerTap, find_layers
from workers.protocol.errors import JobError

Archive = Callable[..., torch.jit.ScriptModule]

WAYS = ("scripted", "traced", "frozen")
N = 33


def hooked(net: nn.Module, x: Tensor, *wanted: str) -> list[Tensor]:
    """What each module gave, each time it ran, in the order wanted; copied at that moment."""
    seen: dict[str, list[Tensor]] = {}

    def hook(name: str) -> Callable[..., None]:
        def keep(_module: nn.Module, _inputs: object, output: object) -> None:
            value = output[0] if isinstance(output, tuple) else output
            assert isinstance(value, Tensor)
            seen.setdefault(name, []).append(value.clone())

        return keep

    handles = [module.register_forward_hook(hook(name)) for name, module in net.named_modules()]
    with torch.inference_mode():
        net(x)
    for handle in handles:
        handle.remove()
    return [seen[name].pop(0) for name in wanted]


def pooled(value: Tensor) -> Tensor:
    """Means over positions: of maps [n, C, ...] and of tokens [n, T, C]."""
    if value.dim() == 2:
        return value
    return value.mean(1) if value.dim() == 3 else value.flatten(2).mean(2)


@dataclass
class Case:
    """A network, and for each of its layers the module whose output its features are."""

    net: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    layers: dict[str, str]


def mlp(*activations: nn.Module) -> nn.Sequential:
    widths = (12, *(16 - k for k in range(len(activations))))
    modules: list[nn.Module] = []
    for inside, outside, activation in zip(widths, widths[1:], activations, strict=False):
        modules += [nn.Linear(inside, outside), activation]
    return nn.Sequential(*modules, nn.Linear(widths[-1], 5))


FLAT, IMAGE, TOKENS = (12,), (3, 8, 8), (4, 12)

CASES = {
    "mlp": Case(lambda: mlp(nn.ReLU(), nn.GELU(), nn.Tanh()), FLAT, {"0": "1", "2": "3", "4": "5"}),
    "in_place": Case(
        lambda: mlp(nn.ReLU(inplace=True), nn.SiLU(inplace=True)), FLAT, {"0": "1", "2": "3"}
    ),
    "hand_written": Case(
        lambda: mlp(Swish(), TanhGelu(), HandNorm(14)), FLAT, {"0": "1", "2": "3", "4": "5"}
    ),
    "dropout": Case(
        lambda: nn.Sequential(
            nn.Linear(12, 9),
            nn.BatchNorm1d(9),
            nn.Dropout(0.3),
            nn.ReLU6(inplace=True),
            nn.BatchNorm1d(9),
            nn.Linear(9, 5),
        ),
        FLAT,
        {"0": "3"},
    ),
    "resnet": Case(
        ResNet,
        IMAGE,
        {
            "block1.conv1": "block1.relu1",
            "block1.shortcut.0": "block1.shortcut.1",
            "block1.conv2": "block1.relu2",
            "block2.conv1": "block2.relu1",
            "block2.shortcut.0": "block2.shortcut.1",
            "block2.conv2": "block2.relu2",
        },
    ),
    "pool_before_activation": Case(
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(54, 5)
        ),
        IMAGE,
        {"0": "2"},
    ),
    "gated": Case(Gated, IMAGE, {"squeeze": "relu", "excite": "sigmoid", "conv": "act"}),
    "attention": Case(
        Attention,
        TOKENS,
        {
            "q": "q",
            "k": "k",
            "v": "v",
            "project": "ln2",
            "up": "act",
            "down": "ln3",
        },
    ),
    "flattened": Case(Flattened, TOKENS, {"each": "act"}),
    "shared": Case(Shared, FLAT, {"layer": "first", "layer #2": "second"}),
    "lstm": Case(
        lambda: Recurrent(nn.LSTM, batch_first=True), TOKENS, {"embed": "embed", "rnn": "rnn"}
    ),
    "product": Case(Product, FLAT, {"w1": "first", "w2": "second"}),
    "conv1d": Case(
        lambda: nn.Sequential(
            nn.Conv1d(4, 7, 3), nn.ELU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(7, 5)
        ),
        TOKENS,
        {"0": "1"},
    ),
    "head_alone": Case(lambda: nn.Sequential(nn.Linear(12, 5)), FLAT, {}),
}


def run(model: nn.Module, *batches: Tensor) -> tuple[FoundLayers, Extracted, list[Tensor]]:
    """Finds the layers on a first batch; what they and Φ are on the last."""
    extractor = discover(model, (batches[0],))
    layers = find_layers(model, extractor, (batches[0],))
    tap = LayerTap(layers.found, layers.operations)
    for batch in batches[:-1]:
        extractor.run((batch,), tap)
        tap.take(len(batch))
    extracted = extractor.run((batches[-1],), tap)
    return layers, extracted, tap.take(len(batches[-1]))


@pytest.mark.parametrize("how", [*WAYS, "eager"])
@pytest.mark.parametrize("name", CASES)
def test_features_are_what_hooks_see(name: str, how: str, archive: Archive) -> None:
    torch.manual_seed(0)
    case = CASES[name]
    net = settled(case.net())
    first, second = torch.randn(20, *case.input_shape), torch.randn(N, *case.input_shape)
    expected = [pooled(value) for value in hooked(net, second, *case.layers.values())]
    if name == "conv1d":  # its three axes are a map, not tokens
        expected = [hooked(net, second, "1")[0].mean(2)]
    model = net if how == "eager" else archive(net, first[:3], how)
    layers, extracted, features = run(model, first, second)
    assert layers.warnings == ()
    assert len(features) == len(expected)
    for found, value in zip(features, expected, strict=True):
        torch.testing.assert_close(found, value, rtol=1e-5, atol=1e-5)
    assert [layer.p for layer in layers.found] == [value.shape[1] for value in expected]
    if how != "frozen":
        assert [layer.name for layer in layers.found] == list(case.layers)
    if name in {"mlp", "in_place", "resnet", "shared", "product", "gated", "flattened"}:
        assert torch.equal(features[-1], extracted.phi)


def test_frozen_layers_are_named_by_operation(archive: Archive) -> None:
    torch.manual_seed(0)
    model = archive(ResNet(), torch.randn(2, *IMAGE), "frozen")
    layers, _, _ = run(model, torch.randn(20, *IMAGE))
    # A shortcut runs after the block's second convolution, and is done before it.
    order = (1, 3, 2, 4, 6, 5)
    assert [layer.name for layer in layers.found] == [f"aten::conv2d #{k}" for k in order]
    assert {layer.kind for layer in layers.found} == {"conv2d"}


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("steps", [4, 16])
def test_samples_need_not_be_the_first_axis(
    cell: type[nn.Module], steps: int, archive: Archive
) -> None:
    """Not even where there are as many positions as samples in the recorded run."""
    torch.manual_seed(0)
    net = Recurrent(cell, batch_first=False).eval()
    x = torch.randn(N, steps, 12)
    layers, _, features = run(archive(net, x[:3]), x[:16], x)
    for found, value in zip(features, hooked(net, x, "embed", "rnn"), strict=True):
        torch.testing.assert_close(found, value.mean(0), rtol=1e-5, atol=1e-5)
    assert [layer.kind for layer in layers.found] == ["linear", cell.__name__.lower()]


class Mixed(nn.Module):
    """Rows of the first layer are positions of all samples."""

    def __init__(self) -> None:
        super().__init__()
        self.each, self.act, self.fc = nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.each(x.flatten(0, 1)))
        return self.fc(h.view(-1, 4, 6).mean(1))


def test_layers_without_an_axis_of_samples_are_left_out(archive: Archive) -> None:
    layers, _, features = run(archive(Mixed(), torch.randn(2, *TOKENS)), torch.randn(20, *TOKENS))
    assert features == []
    assert len(layers.warnings) == 1
    assert layers.warnings[0].startswith("layers_left_out:")
    assert "16 samples of a batch alone: each (shape [64, 6])." in layers.warnings[0]


def test_a_transformer_layer_fused_into_one_operation_is_one_layer(archive: Archive) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.TransformerEncoderLayer(12, 2, 24, batch_first=True),
        nn.AdaptiveAvgPool2d((1, 12)),
        nn.Flatten(),
        nn.Linear(12, 5),
    ).eval()
    x = torch.randn(N, *TOKENS)
    layers, extracted, features = run(archive(net, x[:3]), x)
    assert [layer.kind for layer in layers.found] == ["transformer_encoder_layer_fwd"]
    torch.testing.assert_close(features[0], hooked(net, x, "0")[0].mean(1))
    torch.testing.assert_close(features[0], extracted.phi)


@pytest.mark.filterwarnings(
    "ignore:.*torch.ao.quantization is deprecated", "ignore:.*quantized tensor"
)
def test_a_quantized_layer_is_a_layer(archive: Archive) -> None:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(12, 9), nn.ReLU()).eval()
    quantized = torch.ao.quantization.quantize_dynamic(trunk, {nn.Linear}, dtype=torch.qint8)
    model = archive(nn.Sequential(quantized, nn.Linear(9, 5)), torch.randn(2, *FLAT))
    layers, extracted, features = run(model, torch.randn(20, *FLAT))
    assert [layer.name for layer in layers.found] == ["quantized::linear_dynamic #1"]
    assert torch.equal(features[0], extracted.phi)


def test_batches_are_put_together_from_the_pieces_an_archive_takes(archive: Archive) -> None:
    class Baked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp(nn.ReLU(), nn.ReLU())

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.view(8, 12))

    torch.manual_seed(0)
    net = Baked().eval()
    x = torch.randn(N, 12)
    _, extracted, features = run(archive(net, x[:8], "traced"), x)
    assert extracted.phi.shape == (N, 15)
    assert torch.equal(features[-1], extracted.phi)
    with torch.no_grad():
        torch.testing.assert_close(features[0], net.net[:2](x))


class Branching(nn.Module):
    """Runs another hidden layer for some inputs, and the same head for all."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.fc = nn.Linear(12, 9), nn.Linear(12, 9), nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.mean() > 1.0):
            return self.fc(torch.tanh(self.other(x)))
        return self.fc(torch.relu(self.one(x)))


class Repeating(Branching):
    """Runs a layer as often as the input says."""

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.one(x))
        if bool(x.mean() > 1.0):
            h = torch.relu(h)
        return self.fc(h)


@pytest.mark.parametrize("model", [Branching, Repeating])
def test_a_batch_on_which_the_model_does_something_else_is_refused(
    model: type[nn.Module], archive: Archive
) -> None:
    torch.manual_seed(0)
    first = torch.randn(20, *FLAT)
    with pytest.raises(JobError, match="the same operations on every batch") as caught:
        run(archive(model(), first[:3]), first, first + 2.0)
    failure = caught.value.failure
    assert (failure.code, failure.detail["code"]) == ("unsupported_model", "layers_differ")
    assert "operation" in failure.message
    assert "penultimate" in (failure.hint or "")


class SmallIsDifferent(Branching):
    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.one(x))
        return self.fc(h * 1.0 if x.shape[0] < 10 else h)


def test_operations_that_depend_on_the_batch_size_are_refused(archive: Archive) -> None:
    first = torch.randn(20, *FLAT)
    with pytest.raises(JobError, match="For 8 samples it runs other operations than for 16"):
        run(archive(SmallIsDifferent(), first[:3]), first)


def test_half_precision_is_pooled_without_losing_digits(archive: Archive) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)
    )
    net = net.to(torch.bfloat16).eval()
    x = torch.randn(20, *IMAGE, dtype=torch.bfloat16)
    _, _, features = run(archive(net, x[:3]), x)
    expected = hooked(net, x, "1")[0].double().mean([2, 3])
    torch.testing.assert_close(features[0].double(), expected, rtol=1e-6, atol=1e-6)

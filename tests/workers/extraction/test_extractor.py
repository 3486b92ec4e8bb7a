"""Φ, u, W, b and the link against what the model's author knows, taken in eager mode."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from authored import (
    Addmm,
    Affine,
    Broadcast,
    ChosenClasses,
    ClassSlice,
    Einsum,
    FirstToken,
    InPlace,
    LastToken,
    Link,
    Mean,
    Net,
    OneClass,
    Overwriting,
    Pooled,
    Product,
    SecondHalf,
    Squeezed,
    Summed,
    ThreeInOne,
    Transposed,
    Vector,
    WeightNorm,
    cnn,
    mlp,
    mlp_of_tokens,
    pooled_cnn,
    settled,
)
from torch import Tensor, nn
from torch.nn import functional

from workers.extraction import discover

Archive = Callable[..., nn.Module]

WAYS = ("scripted", "traced", "frozen")


@dataclass
class Truth:
    phi: Tensor
    weight: Tensor
    bias: Tensor | None


FLAT, IMAGE, TOKENS = (12,), (3, 8, 8), (4, 12)


def linear_truth(net: nn.Module, x: Tensor) -> Truth:
    return Truth(net.trunk(x), net.fc.weight, net.fc.bias)


def product_truth(net: nn.Module, x: Tensor) -> Truth:
    return Truth(net.trunk(x), net.fc.weight.T, net.fc.bias)


def addmm_truth(net: nn.Module, x: Tensor) -> Truth:
    return Truth(net.trunk(x), 2.0 * net.fc.weight.T, 0.5 * net.fc.bias)


def affine_truth(net: nn.Module, x: Tensor) -> Truth:
    tail, fc = net.tail, net.fc
    weight = -fc.weight / tail.temperature * tail.scale[:, None]
    bias = (3.0 - fc.bias) / tail.temperature * tail.scale + tail.shift[0]
    return Truth(net.trunk(x), weight, bias)


def norm_truth(net: nn.Module, x: Tensor) -> Truth:
    scale = net.tail.weight / torch.sqrt(net.tail.running_var + net.tail.eps)
    bias = (net.fc.bias - net.tail.running_mean) * scale + net.tail.bias
    return Truth(net.trunk(x), net.fc.weight * scale[:, None], bias)


def map_truth(net: nn.Module, x: Tensor) -> Truth:
    return Truth(net.trunk(x).mean([2, 3]), net.fc.weight.flatten(1), net.fc.bias)


def patch_truth(net: nn.Module, x: Tensor) -> Truth:
    seen = functional.unfold(net.trunk(x), 3, dilation=2, padding=1, stride=2)
    return Truth(seen.mean(2), net.fc.weight.flatten(1), net.fc.bias)


def last_token_truth(net: nn.Module, x: Tensor) -> Truth:
    h = net.trunk(x)
    last = (net.fc(h).sum(2) > 0).long().argmax(1)
    return Truth(h[torch.arange(len(h)), last], net.fc.weight, net.fc.bias)


@dataclass
class Case:
    net: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    truth: Callable[[nn.Module, Tensor], Truth]
    link: str = "identity"
    kind: str = "linear"


def head(outputs: int = 5, *, bias: bool = True) -> nn.Linear:
    return nn.Linear(16, outputs, bias=bias)


CASES = {
    "mlp": Case(lambda: Net(mlp(), head(), nn.Identity()), FLAT, linear_truth),
    "no_bias": Case(lambda: Net(mlp(), head(bias=False), nn.Identity()), FLAT, linear_truth),
    "cnn": Case(lambda: Net(pooled_cnn(), head(), nn.Identity()), IMAGE, linear_truth),
    "softmax": Case(lambda: Net(mlp(), head(), Link("softmax")), FLAT, linear_truth, "softmax"),
    "log_softmax": Case(
        lambda: Net(mlp(), head(), Link("log_softmax")), FLAT, linear_truth, "log_softmax"
    ),
    "sigmoid": Case(lambda: Net(mlp(), head(), Link("sigmoid")), FLAT, linear_truth, "sigmoid"),
    "tanh": Case(lambda: Net(mlp(), head(), Link("tanh")), FLAT, linear_truth, "tanh"),
    "one_output": Case(lambda: Net(mlp(), head(1), nn.Identity()), FLAT, linear_truth),
    "one_output_squeezed": Case(
        lambda: Net(mlp(), head(1), Squeezed()), FLAT, linear_truth, "sigmoid"
    ),
    "product": Case(lambda: Net(mlp(), Product(), nn.Identity()), FLAT, product_truth),
    "addmm": Case(lambda: Net(mlp(), Addmm(), nn.Identity()), FLAT, addmm_truth),
    "transposed": Case(
        lambda: Net(mlp(), Transposed(), nn.Identity()),
        FLAT,
        lambda net, x: Truth(net.trunk(x), net.fc.weight, None),
    ),
    "vector": Case(
        lambda: Net(mlp(), Vector(), nn.Identity()),
        FLAT,
        lambda net, x: Truth(net.trunk(x), net.fc.weight[None], None),
    ),
    "weight_norm": Case(
        lambda: Net(mlp(), WeightNorm(), nn.Identity()),
        FLAT,
        lambda net, x: Truth(net.trunk(x), net.fc.weight(), None),
    ),
    "affine": Case(lambda: Net(mlp(), head(), Affine()), FLAT, affine_truth),
    "batch_norm_after": Case(lambda: Net(mlp(), head(), nn.BatchNorm1d(5)), FLAT, norm_truth),
    "in_place": Case(
        lambda: Net(mlp(), head(), InPlace()),
        FLAT,
        lambda net, x: Truth(net.trunk(x), 2 * net.fc.weight, 2 * net.fc.bias + 1),
        "sigmoid",
    ),
    "features_overwritten": Case(Overwriting, FLAT, linear_truth),
    "dropout_after": Case(
        lambda: Net(mlp(), head(), nn.Sequential(nn.Dropout(0.3), nn.Flatten())),
        FLAT,
        linear_truth,
    ),
    "conv1x1_pool": Case(
        lambda: Net(cnn(), nn.Conv2d(16, 5, 1), Pooled()), IMAGE, map_truth, kind="conv1x1"
    ),
    "conv1x1_mean_softmax": Case(
        lambda: Net(cnn(), nn.Conv2d(16, 5, 1), nn.Sequential(Mean(), Link("softmax"))),
        IMAGE,
        map_truth,
        "softmax",
        "conv1x1",
    ),
    "conv1x1_on_pooled": Case(
        lambda: Net(
            nn.Sequential(cnn(), nn.AdaptiveAvgPool2d(1)), nn.Conv2d(16, 5, 1), nn.Flatten()
        ),
        IMAGE,
        map_truth,
        kind="conv1x1",
    ),
    "conv1x1_strided": Case(
        lambda: Net(cnn(), nn.Conv2d(16, 5, 1, stride=2), Pooled()),
        IMAGE,
        lambda net, x: Truth(
            net.trunk(x)[:, :, ::2, ::2].mean([2, 3]), net.fc.weight.flatten(1), net.fc.bias
        ),
        kind="conv1x1",
    ),
    "tokens_summed": Case(
        lambda: Net(mlp(), head(), Summed()),
        TOKENS,
        lambda net, x: Truth(net.trunk(x).sum(1), net.fc.weight, 4 * net.fc.bias),
    ),
    "first_token": Case(
        lambda: Net(mlp(), head(), FirstToken()),
        TOKENS,
        lambda net, x: Truth(net.trunk(x)[:, 0], net.fc.weight, net.fc.bias),
    ),
    "einsum": Case(
        lambda: Net(mlp_of_tokens(), Einsum(), nn.Identity()),
        TOKENS,
        lambda net, x: Truth(
            net.trunk(x).flatten(1), net.fc.weight.permute(1, 2, 0).reshape(5, 48), None
        ),
    ),
    "three_in_one_einsum": Case(
        ThreeInOne, FLAT, lambda net, x: Truth(net.features(x), net.weight, None)
    ),
    "bmm": Case(
        lambda: Net(mlp(), Broadcast(), nn.Identity()),
        TOKENS,
        lambda net, x: Truth(net.trunk(x).mean(1), net.fc.weight.T, None),
    ),
    "last_token": Case(lambda: Net(mlp(), head(), LastToken()), TOKENS, last_token_truth),
    "second_half": Case(
        lambda: Net(mlp(), head(), SecondHalf()),
        TOKENS,
        lambda net, x: Truth(net.trunk(x)[:, 2:].mean(1), net.fc.weight, net.fc.bias),
    ),
    "conv3x3_padded_pool": Case(
        lambda: Net(cnn(), nn.Conv2d(16, 5, 3, stride=2, padding=1, dilation=2), Pooled()),
        IMAGE,
        patch_truth,
        kind="conv3x3",
    ),
    "conv_of_whole_map": Case(
        lambda: Net(cnn(), nn.Conv2d(16, 5, 6), nn.Flatten()),
        IMAGE,
        lambda net, x: Truth(net.trunk(x).flatten(1), net.fc.weight.flatten(1), net.fc.bias),
        kind="conv6x6",
    ),
    "chosen_classes": Case(
        lambda: Net(mlp(), head(), ChosenClasses()),
        FLAT,
        lambda net, x: Truth(net.trunk(x), net.fc.weight[[4, 0, 1]], net.fc.bias[[4, 0, 1]]),
    ),
    "class_slice": Case(
        lambda: Net(mlp(), head(), ClassSlice()),
        FLAT,
        lambda net, x: Truth(net.trunk(x), net.fc.weight[1:4], net.fc.bias[1:4]),
    ),
    "one_class": Case(
        lambda: Net(mlp(), head(), OneClass()),
        FLAT,
        lambda net, x: Truth(net.trunk(x), net.fc.weight[2:3], net.fc.bias[2:3]),
        "sigmoid",
    ),
}


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_finds_what_the_author_knows(name: str, how: str, archive: Archive) -> None:
    torch.manual_seed(0)
    case = CASES[name]
    net = settled(case.net())
    first, second = torch.randn(20, *case.input_shape), torch.randn(33, *case.input_shape)
    with torch.no_grad():
        truth = case.truth(net, second)
        logits = truth.phi @ truth.weight.T + (0 if truth.bias is None else truth.bias)
    extractor = discover(archive(net, first[:3], how), (first,))
    extracted = extractor.run((second,))
    found = extractor.feature_map

    torch.testing.assert_close(extracted.phi, truth.phi, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(extracted.outputs, logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.W.float(), truth.weight, rtol=1e-5, atol=1e-6)
    assert (found.b is None) == (truth.bias is None)
    if found.b is not None:
        torch.testing.assert_close(found.b.float(), truth.bias, rtol=1e-5, atol=1e-6)
    assert (found.outputs, found.p) == tuple(truth.weight.shape)
    assert (found.link, found.kind, found.dtype) == (case.link, case.kind, "float32")
    assert found.W.dtype == torch.float64
    assert found.warnings == ()
    assert extractor.residual < 1e-5

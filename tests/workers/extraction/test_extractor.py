"""Φ, u, W, b and the link against what the model's author knows, taken in eager mode."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
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


class Net(nn.Module):
    """A trunk, a head and a tail; Φ is what the trunk gives."""

    def __init__(self, trunk: nn.Module, fc: nn.Module, tail: nn.Module) -> None:
        super().__init__()
        self.trunk, self.fc, self.tail = trunk, fc, tail

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.fc(self.trunk(x)))


class Product(nn.Module):
    """A head spelled as a matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 5))
        self.bias = nn.Parameter(torch.randn(5))

    def forward(self, h: Tensor) -> Tensor:
        return h @ self.weight + self.bias


class Addmm(Product):
    def forward(self, h: Tensor) -> Tensor:
        return torch.addmm(self.bias, h, self.weight, beta=0.5, alpha=2.0)


class Transposed(nn.Module):
    """The weight on the left: W Φᵀ, turned round afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 16))

    def forward(self, h: Tensor) -> Tensor:
        return torch.mm(self.weight, h.t()).t()


class Vector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16))

    def forward(self, h: Tensor) -> Tensor:
        return torch.mv(h, self.weight)


class WeightNorm(nn.Module):
    """W is computed at run time, so no parameter is the weight."""

    def __init__(self) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.randn(5, 16))
        self.g = nn.Parameter(torch.rand(5, 1) + 0.5)

    def weight(self) -> Tensor:
        return self.v / self.v.square().sum(1, keepdim=True).sqrt() * self.g

    def forward(self, h: Tensor) -> Tensor:
        return functional.linear(h, self.weight())


class Einsum(nn.Module):
    """Contracts both axes of a map with a weight whose axes come in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, 5, 4))

    def forward(self, h: Tensor) -> Tensor:
        return torch.einsum("nij,jki->nk", h, self.weight)


class ThreeInOne(nn.Module):
    """The operation of the head, used before it for a product of three."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = mlp()
        self.left, self.right = (nn.Parameter(torch.rand(16)) for _ in range(2))
        self.weight = nn.Parameter(torch.randn(5, 16))

    def features(self, x: Tensor) -> Tensor:
        return torch.einsum("np,p,p->np", self.trunk(x), self.left, self.right)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("np,kp->nk", self.features(x), self.weight)


class Broadcast(nn.Module):
    """One matrix for a batch of products."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 5))

    def forward(self, h: Tensor) -> Tensor:
        return torch.bmm(h, self.weight.expand(h.size(0), 16, 5)).mean(1)


class LastToken(nn.Module):
    """Picks, for each sample, a token that depends on its outputs."""

    def forward(self, u: Tensor) -> Tensor:
        last = (u.sum(2) > 0).long().argmax(1)
        return u[torch.arange(u.size(0)), last]


class SecondHalf(nn.Module):
    """The later part of the tokens, averaged."""

    def forward(self, u: Tensor) -> Tensor:
        return u.chunk(2, dim=1)[1].mean(1)


class ChosenClasses(nn.Module):
    def forward(self, u: Tensor) -> Tensor:
        return u[:, torch.tensor([4, 0, 1])]


class Link(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, u: Tensor) -> Tensor:
        if self.name == "softmax":
            return torch.softmax(u, dim=-1)
        if self.name == "log_softmax":
            return torch.log_softmax(u, dim=1)
        if self.name == "sigmoid":
            return torch.sigmoid(u)
        return torch.tanh(u)


class Affine(nn.Module):
    """(3 - u) / t * s + c, per class, after the head."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = 1.7
        self.scale = nn.Parameter(torch.rand(5) + 0.5)
        self.shift = nn.Parameter(torch.randn(1, 5))

    def forward(self, u: Tensor) -> Tensor:
        return (3.0 - u) / self.temperature * self.scale + self.shift


class InPlace(nn.Module):
    """A tail that overwrites what the head gave."""

    def forward(self, u: Tensor) -> Tensor:
        return u.mul_(2.0).add_(1.0).sigmoid_()


class Pooled(nn.Module):
    """A 1×1 convolution whose map is averaged, as in a fully convolutional network."""

    def forward(self, u: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(u, 1).flatten(1)


class Mean(nn.Module):
    def forward(self, u: Tensor) -> Tensor:
        return u.mean([2, 3])


class Summed(nn.Module):
    def forward(self, u: Tensor) -> Tensor:
        return u.sum(dim=1)


class FirstToken(nn.Module):
    def forward(self, u: Tensor) -> Tensor:
        return u[:, 0]


class ClassSlice(nn.Module):
    def forward(self, u: Tensor) -> Tensor:
        return u[:, 1:4]


class OneClass(nn.Module):
    def forward(self, u: Tensor) -> Tensor:
        return torch.sigmoid(u[:, 2])


class Squeezed(nn.Module):
    def forward(self, u: Tensor) -> Tensor:
        return torch.sigmoid(u.squeeze(1))


class Overwriting(nn.Module):
    """Overwrites Φ after the head has read it."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.fc = mlp(), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        u = self.fc(h)
        h.zero_()
        return u


def mlp() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(12, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 16), nn.GELU()
    )


def mlp_of_tokens() -> nn.Sequential:
    return nn.Sequential(nn.Linear(12, 12), nn.Tanh())


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3),
        nn.ReLU(),
        nn.Dropout2d(0.2),
    )


def pooled_cnn() -> nn.Sequential:
    return nn.Sequential(cnn(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


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


def settled(net: nn.Module) -> nn.Module:
    """Gives batch norms statistics that are not their defaults."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return net


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
    net = settled(case.net()).eval()
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

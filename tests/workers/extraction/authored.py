"""Networks whose author knows what Φ is: trunks, heads in many spellings, and what follows them."""

import torch
from torch import Tensor, nn
from torch.nn import functional


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


def settled(net: nn.Module) -> nn.Module:
    """Gives batch norms statistics that are not their defaults; in evaluation mode."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return net.eval()

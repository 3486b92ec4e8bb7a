"""Models whose outputs are not those of one last linear layer."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from service.contract.failures import FailureCode
from zoo.case import Case, Headed, Refused, cases, images, series, vectors
from zoo.convolutional import ResNet
from zoo.maps import Fcn, OverTime
from zoo.sequential import Vit

WAYS = ("scripted", "traced")


class TwoTrunks(Headed):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(16, 5)


class WideAndDeep(TwoTrunks):
    """Adds a linear function of the input to the head's outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x)) + self.wide(x)


class Ensemble(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.members = nn.ModuleList([Headed() for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([member(x) for member in self.members]).mean(dim=0)


class EnsembleOfProbabilities(Ensemble):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([member(x).softmax(1) for member in self.members]).mean(dim=0)


class Augmented(ResNet):
    """The mean of an image's outputs and of those of its mirror image."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * (self.fc(self.features(x)) + self.fc(self.features(x.flip(3))))


class AugmentedApart(ResNet):
    """The same of both as one batch, cut apart after the head."""

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.fc(self.features(torch.cat([x, x.flip(3)]))).chunk(2)
        return (one + other) / 2


class DropoutsOntoZeros(Headed):
    """The mean of the head on several dropouts, summed from zeros."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        u = torch.zeros(x.shape[0], 5)
        for _ in range(3):
            u = u + self.head(nn.functional.dropout(h, 0.3, self.training))
        return u / 3


class Distilled(Vit):
    """The mean of a class token's head and of a distillation token's."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Linear(16, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.blocks(self.patches(x).flatten(2).transpose(1, 2)))
        return (self.head(y[:, 0]) + self.second(y[:, 1])) / 2


class Joined(TwoTrunks):
    """Two heads side by side."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return torch.cat([self.head(h), self.other(torch.tanh(h))], dim=1)


class Residual(Headed):
    """Adds the head's input to its outputs."""

    def __init__(self) -> None:
        super().__init__(outputs=16)

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return h + self.head(h)


class ResidualInput(Headed):
    """A forecast as a difference from the last values seen."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x)) + x[:, -5:]


class Gated(TwoTrunks):
    """A product of two functions of the input."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return self.head(h) * torch.sigmoid(self.other(h))


class Similarity(TwoTrunks):
    """Φ against classes that are computed from the input."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        classes = self.other(h).unsqueeze(2) * h.unsqueeze(1)
        return torch.bmm(classes, h.unsqueeze(2)).squeeze(2)


class Bilinear(TwoTrunks):
    def __init__(self) -> None:
        super().__init__()
        self.bilinear = nn.Bilinear(16, 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return self.bilinear(h, torch.tanh(h))


class Experts(Headed):
    """Heads weighted by a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(12, 3)
        self.experts = nn.Parameter(torch.randn(3, 5, 16))

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.softmax(self.gate(x), dim=1)
        return torch.einsum("np,kcp,nk->nc", self.trunk(x), self.experts, gate)


class RuledOut(Headed):
    """Rules out the classes that the input says are impossible."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x)).masked_fill(x[:, :5] > 0, -100.0)


class SqueezeNet(Fcn):
    """ReLU between the last convolution and the pooling."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.head(self.body(x)))
        return functional.adaptive_avg_pool2d(y, 1).flatten(1)


class SoftmaxThenMean(Fcn):
    """Averages probabilities over the places."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.head(self.body(x)), dim=1).mean([2, 3])


class LargestInTime(OverTime):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.transpose(1, 2))).amax(dim=2)


class MaxPooled(Fcn):
    def forward(self, x: Tensor) -> Tensor:
        return functional.adaptive_max_pool2d(self.head(self.body(x)), 1).flatten(1)


class Grouped(Fcn):
    """Each class sees features of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(10, 5, 1, groups=5)


class Constant(Headed):
    """The same answer for every input."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head.weight.sum(1).unsqueeze(0).expand(x.shape[0], -1) + 1.0


class Distances(Headed):
    """Distances from the classes' centres."""

    def __init__(self) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(5, 16))

    def forward(self, x: Tensor) -> Tensor:
        return -torch.cdist(self.trunk(x), self.centres)


class Largest(Headed):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x)).topk(2, dim=1)[0]


class Sorted(Headed):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x)).sort(dim=1, descending=True)[0]


class NormedOutputs(Headed):
    """Brings each sample's outputs to length one."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(self.head(self.trunk(x)), dim=1)


class NoLayer(Headed):
    """Statistics of the input."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x.mean(1), x.var(1), x.amax(1)], dim=1)


SUM = Refused(
    FailureCode.UNSUPPORTED_MODEL, "multiple_heads", ("add", "sum", "mean", "stack", "cat")
)
POOL = Refused(FailureCode.UNSUPPORTED_MODEL, "nonlinear_pool", ("relu", "max", "softmax"))


def _headless(*says: str) -> Refused:
    return Refused(FailureCode.HEAD_NOT_FOUND, "no_linear_head", says)


TABLE: list[tuple[str, type[nn.Module], Refused]] = [
    ("sums_of_heads", WideAndDeep, SUM),
    ("sums_of_heads", Ensemble, SUM),
    ("sums_of_heads", EnsembleOfProbabilities, SUM),
    ("sums_of_heads", Augmented, SUM),
    ("sums_of_heads", AugmentedApart, SUM),
    ("sums_of_heads", DropoutsOntoZeros, SUM),
    ("sums_of_heads", Distilled, SUM),
    ("sums_of_heads", Joined, SUM),
    ("sums_of_heads", Residual, SUM),
    ("sums_of_heads", ResidualInput, SUM),
    ("products_of_functions", Gated, _headless("mul")),
    ("products_of_functions", Similarity, _headless("bmm")),
    ("products_of_functions", Bilinear, _headless("bilinear", "factors", "depend")),
    ("products_of_functions", Experts, _headless("einsum")),
    ("products_of_functions", RuledOut, _headless("masked_fill")),
    ("nonlinear_pooling", SqueezeNet, POOL),
    ("nonlinear_pooling", SoftmaxThenMean, POOL),
    ("nonlinear_pooling", LargestInTime, POOL),
    ("nonlinear_pooling", MaxPooled, POOL),
    ("no_last_layer", Grouped, _headless("group")),
    ("no_last_layer", Constant, _headless("depend")),
    ("no_last_layer", Distances, _headless("cdist")),
    ("no_last_layer", Largest, _headless("topk")),
    ("no_last_layer", Sorted, _headless("sort")),
    ("no_last_layer", NormedOutputs, _headless("div")),
    ("no_last_layer", NoLayer, _headless("stack", "cat", "input", "mean", "var", "max")),
]
EXPORTED = {WideAndDeep, SqueezeNet}


def refused() -> Iterator[Case]:
    for family, model, expected in TABLE:
        inputs = images if issubclass(model, Fcn | ResNet | Vit) else vectors
        inputs = series if issubclass(model, OverTime) else inputs
        ways = (*WAYS, "exported") if model in EXPORTED else WAYS
        yield from cases(family, model, inputs, expected, *ways)

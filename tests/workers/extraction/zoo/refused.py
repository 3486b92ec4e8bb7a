"""Models that no Φ can be taken from, and files that are no model."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from service.failures import FailureCode
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


class TestTime(ResNet):
    """The mean of an image's outputs and of those of its mirror image."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * (self.fc(self.features(x)) + self.fc(self.features(x.flip(3))))


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


class NoLayer(Headed):
    """Statistics of the input."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x.mean(1), x.var(1), x.amax(1)], dim=1)


class Dropping(Headed):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(self.trunk, nn.Dropout(0.4))


class Normed(Headed):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU())


class AlwaysDropping(Headed):
    """Monte-Carlo dropout: on, whatever the mode."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.dropout(self.trunk(x), 0.3, training=True))


class Noisy(Headed):
    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return self.head(h + 0.1 * torch.randn_like(h))


class Sampling(Headed):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.bernoulli(torch.sigmoid(self.trunk(x))))


class Counting(Headed):
    """Answers differently at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1.0)
        return self.head(self.trunk(x) * self.calls)


class NanWeights(Headed):
    def __init__(self) -> None:
        super().__init__()
        nn.init.constant_(self.head.weight[2:3], float("nan"))


class InfiniteWeights(Headed):
    def __init__(self) -> None:
        super().__init__()
        nn.init.constant_(self.head.bias[:1], float("inf"))


class Overflowing(Headed):
    """Activations that leave float32."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.exp(self.trunk(x) * 1e4 + 1e3))


class NanActivations(Headed):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.log(self.trunk(x) - 100.0))


class Labels(Headed):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x)).argmax(dim=1)


class Loss(Headed):
    """One number for the whole batch."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x)).logsumexp(1).mean()


def _refused(code: FailureCode, detail: str, *says: str) -> Refused:
    return Refused(code, detail, says)


SUM = _refused(
    FailureCode.UNSUPPORTED_MODEL, "multiple_heads", "add", "sum", "mean", "stack", "cat"
)
POOL = _refused(FailureCode.UNSUPPORTED_MODEL, "nonlinear_pool", "relu", "max", "softmax")
TRAIN = _refused(FailureCode.UNSUPPORTED_MODEL, "train_mode_baked", "dropout", "norm")
RANDOM = _refused(FailureCode.UNSUPPORTED_MODEL, "stochastic", "rand", "bernoulli", "two runs")
BROKEN = _refused(FailureCode.NON_FINITE, "non_finite", "weight", "bias", "nan", "infinit")
SHAPE = _refused(FailureCode.UNSUPPORTED_MODEL, "bad_output", "int64", "single number")


def _headless(*says: str) -> Refused:
    return _refused(FailureCode.HEAD_NOT_FOUND, "no_linear_head", *says)


TABLE: list[tuple[str, type[nn.Module], Refused]] = [
    ("sums_of_heads", WideAndDeep, SUM),
    ("sums_of_heads", Ensemble, SUM),
    ("sums_of_heads", EnsembleOfProbabilities, SUM),
    ("sums_of_heads", TestTime, SUM),
    ("sums_of_heads", Distilled, SUM),
    ("sums_of_heads", Joined, SUM),
    ("sums_of_heads", Residual, SUM),
    ("sums_of_heads", ResidualInput, SUM),
    ("products_of_functions", Gated, _headless("mul")),
    ("products_of_functions", Similarity, _headless("bmm")),
    ("products_of_functions", Bilinear, _headless("bilinear", "factors", "depend")),
    ("nonlinear_pooling", SqueezeNet, POOL),
    ("nonlinear_pooling", SoftmaxThenMean, POOL),
    ("nonlinear_pooling", LargestInTime, POOL),
    ("nonlinear_pooling", MaxPooled, POOL),
    ("no_last_layer", Grouped, _headless("group")),
    ("no_last_layer", Constant, _headless("depend")),
    ("no_last_layer", Largest, _headless("topk")),
    ("no_last_layer", Sorted, _headless("sort")),
    ("no_last_layer", NoLayer, _headless("stack", "cat", "input", "mean", "var", "max")),
    ("train_mode_saved", AlwaysDropping, TRAIN),
    ("random", Noisy, RANDOM),
    ("random", Sampling, RANDOM),
    ("non_finite", NanWeights, BROKEN),
    ("non_finite", InfiniteWeights, BROKEN),
    ("non_finite", Overflowing, BROKEN),
    ("non_finite", NanActivations, BROKEN),
    ("no_float_rows", Labels, SHAPE),
    ("no_float_rows", Loss, SHAPE),
]

EXPORTED = {WideAndDeep, SqueezeNet, Noisy, NanWeights, Labels}


def refused() -> Iterator[Case]:
    for family, model, expected in TABLE:
        inputs = images if issubclass(model, Fcn | ResNet | Vit) else vectors
        inputs = series if issubclass(model, OverTime) else inputs
        ways = (*WAYS, "exported") if model in EXPORTED else WAYS
        yield from cases(family, model, inputs, expected, *ways)
    ways = ("train_traced", "train_exported")
    for model in (Dropping, Normed):
        name = model.__name__.lower()
        yield from cases("train_mode_saved", model, vectors, TRAIN, *ways, name=name, saved_rows=16)
    distances = _headless("cdist")
    yield from cases("no_last_layer", Distances, vectors, distances, *WAYS)
    yield from cases("random", Counting, vectors, RANDOM, "scripted", "traced")
    yield from _files()


def _files() -> Iterator[Case]:
    for says, ways in (
        (("constants.pkl", "state_dict", "pickle"), ("state_dict", "pickled")),
        (("reading file", "zip", "damaged", "cut"), ("truncated", "truncated_export")),
    ):
        unreadable = _refused(FailureCode.NOT_A_MODEL, "load_failed", *says)
        yield from cases("not_a_model", Headed, vectors, unreadable, *ways)
    # torch writes these archives, and cannot read them.
    unreadable = _refused(FailureCode.NOT_A_MODEL, "load_failed", "attribute", "optimize")
    yield from cases("not_a_model", ResNet, images, unreadable, "optimized")

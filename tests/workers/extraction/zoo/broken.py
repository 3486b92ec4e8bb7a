"""Models that are no function from a batch to rows of numbers, and files that are no model."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from service.contract.failures import FailureCode
from zoo.case import Batch, Case, Headed, Refused, cases, images, vectors
from zoo.convolutional import ResNet

WAYS = ("scripted", "traced")


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


class SomeRows(Headed):
    """Leaves samples out."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x[x[:, 0] > 0]))


class TimeFirst(Headed):
    """Outputs as [time, n, C]: with as many steps as samples, nothing in the shape tells."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x.transpose(0, 1)))


def square(rows: int) -> Batch:
    return (torch.randn(rows, 16, 12),)


TRAIN = Refused(FailureCode.UNSUPPORTED_MODEL, "train_mode_baked", ("dropout", "norm"))
RANDOM = Refused(FailureCode.UNSUPPORTED_MODEL, "stochastic", ("rand", "bernoulli", "two runs"))
BROKEN = Refused(FailureCode.NON_FINITE, "non_finite", ("weight", "bias", "nan", "infinit"))
SHAPE = Refused(
    FailureCode.UNSUPPORTED_MODEL, "bad_output", ("int64", "single number", "one row per sample")
)

TABLE: list[tuple[str, type[nn.Module], Refused]] = [
    ("train_mode_saved", AlwaysDropping, TRAIN),
    ("random", Noisy, RANDOM),
    ("random", Sampling, RANDOM),
    ("random", Counting, RANDOM),
    ("non_finite", NanWeights, BROKEN),
    ("non_finite", InfiniteWeights, BROKEN),
    ("non_finite", Overflowing, BROKEN),
    ("non_finite", NanActivations, BROKEN),
    ("no_float_rows", Labels, SHAPE),
    ("no_float_rows", Loss, SHAPE),
    ("no_float_rows", SomeRows, SHAPE),
]
EXPORTED = {Noisy, NanWeights, Labels}


def broken() -> Iterator[Case]:
    for family, model, expected in TABLE:
        ways = (*WAYS, "exported") if model in EXPORTED else WAYS
        yield from cases(family, model, vectors, expected, *ways)
    for model in (Dropping, Normed):
        ways = ("train_traced", "train_exported")
        yield from cases("train_mode_saved", model, vectors, TRAIN, *ways, saved_rows=16)
    yield from cases("no_float_rows", TimeFirst, square, SHAPE, *WAYS)
    yield from _files()


def _files() -> Iterator[Case]:
    for says, ways in (
        (("constants.pkl", "state_dict", "torch.save file"), ("state_dict", "pickled")),
        (("reading file", "zip", "damaged", "cut"), ("truncated", "truncated_export")),
    ):
        unreadable = Refused(FailureCode.NOT_A_MODEL, "load_failed", says)
        yield from cases("not_a_model", Headed, vectors, unreadable, *ways)
    # torch writes these archives, and cannot read them.
    unreadable = Refused(FailureCode.NOT_A_MODEL, "load_failed", ("attribute", "optimize"))
    yield from cases("not_a_model", ResNet, images, unreadable, "optimized")

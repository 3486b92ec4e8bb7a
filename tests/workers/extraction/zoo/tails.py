"""What comes after the last linear layer: links, affine functions, a choice of classes."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo.case import Accepted, Batch, Case, Headed, Truth, cases, linear, of_head, vectors

LINKS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda u: torch.softmax(u, 1),
    "log_softmax": lambda u: torch.log_softmax(u, 1),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "softplus": functional.softplus,
    "exp": torch.exp,
}
"""By the name under which the product reports each."""


class Softmax(Headed):
    def forward(self, x: Tensor) -> Tensor:
        return functional.softmax(self.head(self.trunk(x)), dim=-1)


class LogSoftmax(Headed):
    def forward(self, x: Tensor) -> Tensor:
        return functional.log_softmax(self.head(self.trunk(x)), dim=1)


class Sigmoid(Headed):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x)).sigmoid_()


class Tanh(Headed):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.head(self.trunk(x)))


class Relu(Headed):
    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.head(self.trunk(x)))


class Softplus(Headed):
    def forward(self, x: Tensor) -> Tensor:
        return functional.softplus(self.head(self.trunk(x)))


class Exp(Headed):
    """A Poisson regression's rate."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x)).exp()


class Temperature(Headed):
    """Calibrated probabilities: u / T, then softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(1.7))

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.head(self.trunk(x)) / self.temperature, dim=1)


class LogitAdjustment(Headed):
    """Adds the log of the classes' frequencies to the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("prior", torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05]).log())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x)) + self.prior


class Denormalised(Headed):
    """A regression whose targets were standardised: u · std + mean."""

    def __init__(self) -> None:
        super().__init__(outputs=2)
        self.register_buffer("mean", torch.tensor([12.0, -3.0]))
        self.register_buffer("std", torch.tensor([4.0, 0.5]))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x)) * self.std + self.mean


class NormAfter(Headed):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.head(self.trunk(x)))


class Reversed(Headed):
    """1 − u, in place."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x)).neg_().add_(1.0)


class ClassSlice(Headed):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x))[:, 1:4]


class ClassIndex(Headed):
    """Some classes of many, in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.tensor([4, 0, 2]))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x))[:, self.kept]


class ClassIndexSelect(ClassIndex):
    def forward(self, x: Tensor) -> Tensor:
        return torch.log_softmax(self.head(self.trunk(x)).index_select(1, self.kept), 1)


class Flipped(Headed):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x)).flip(1)


class OneOutput(Headed):
    def __init__(self) -> None:
        super().__init__(outputs=1)


class OneOutputSqueezed(OneOutput):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x)).squeeze(-1)


class OneOutputFlattened(OneOutput):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.head(self.trunk(x)).flatten())


class OneColumn(Headed):
    """Of several outputs, the one wanted: `u[:, 2]`."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x))[:, 2]


def mapped(weight: Tensor | float, bias: Tensor | float, model: nn.Module, batch: Batch) -> Truth:
    """The truth of u · weight + bias, per class."""
    head = model.head
    factor = torch.as_tensor(weight).expand(len(head.weight))
    return linear(model.trunk(*batch), factor[:, None] * head.weight, factor * head.bias + bias)


def of_temperature(model: nn.Module, batch: Batch) -> Truth:
    return mapped(1 / model.temperature, 0.0, model, batch)


def of_adjustment(model: nn.Module, batch: Batch) -> Truth:
    return mapped(1.0, model.prior, model, batch)


def of_denormalised(model: nn.Module, batch: Batch) -> Truth:
    return mapped(model.std, model.mean, model, batch)


def of_reversed(model: nn.Module, batch: Batch) -> Truth:
    return mapped(-1.0, 1.0, model, batch)


def of_norm(model: nn.Module, batch: Batch) -> Truth:
    norm = model.norm
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    return mapped(factor, norm.bias - norm.running_mean * factor, model, batch)


def of_classes(*kept: int) -> Callable[[nn.Module, Batch], Truth]:
    def truth(model: nn.Module, batch: Batch) -> Truth:
        rows = list(kept)
        return linear(model.trunk(*batch), model.head.weight[rows], model.head.bias[rows])

    return truth


AFFINE: dict[type[nn.Module], Accepted] = {
    Temperature: Accepted(of_temperature, "softmax"),
    LogitAdjustment: Accepted(of_adjustment),
    NormAfter: Accepted(of_norm),
    Reversed: Accepted(of_reversed),
    ClassSlice: Accepted(of_classes(1, 2, 3)),
    ClassIndex: Accepted(of_classes(4, 0, 2)),
    ClassIndexSelect: Accepted(of_classes(4, 0, 2), "log_softmax"),
    Flipped: Accepted(of_classes(4, 3, 2, 1, 0)),
}

REGRESSION: dict[type[nn.Module], Accepted] = {
    OneOutput: Accepted(of_head),
    OneOutputSqueezed: Accepted(of_head),
    OneOutputFlattened: Accepted(of_head, "sigmoid"),
    OneColumn: Accepted(of_classes(2)),
    Denormalised: Accepted(of_denormalised),
}

EXPORTED = {NormAfter, ClassIndex, OneOutputSqueezed}
EXPORTED_LINKS = {"softmax", "sigmoid"}


def tails() -> Iterator[Case]:
    for model, link in zip(
        (Softmax, LogSoftmax, Sigmoid, Tanh, Relu, Softplus, Exp), LINKS, strict=True
    ):
        # What looks like a hidden layer's activation may be one.
        warnings = ("ends_in_activation",) if link in {"relu", "softplus"} else ()
        expected = Accepted(of_head, link, warnings=warnings)
        ways = ("scripted", "exported") if link in EXPORTED_LINKS else ("scripted",)
        yield from cases("links", model, vectors, expected, *ways)
    for family, table in (("affine", AFFINE), ("regression", REGRESSION)):
        for model, expected in table.items():
            ways = ("scripted", "frozen", *(["exported"] if model in EXPORTED else []))
            yield from cases(family, model, vectors, expected, *ways)

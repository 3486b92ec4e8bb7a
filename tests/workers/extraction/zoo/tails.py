"""What comes after the last linear layer: links, affine functions, a choice of classes."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo.case import Accepted, Batch, Case, Headed, Truth, cases, linear, of_head, vectors


def floored(u: Tensor) -> Tensor:
    return functional.threshold(u, 0.2, -1.0)


def finite(u: Tensor) -> Tensor:
    return torch.nan_to_num(u, 0.0)


def kept_apart(u: Tensor) -> Tensor:
    """A probability away from 0 and 1, back to a logit."""
    return torch.logit(torch.sigmoid(u), eps=0.2)


def decided(u: Tensor) -> Tensor:
    return torch.sigmoid(u).round()


def decided_late(u: Tensor) -> Tensor:
    return torch.ge(torch.sigmoid(u), 0.55).to(torch.float32)


def counted(u: Tensor) -> Tensor:
    return torch.round(u).to(torch.int64).to(torch.float32)


def bounded(u: Tensor) -> Tensor:
    return u.clamp(-0.2, 0.3)


def positive(u: Tensor) -> Tensor:
    return (u > 0.1).float()


def cut(u: Tensor) -> Tensor:
    return torch.floor(u).clamp_min(-1.0)


def whole(u: Tensor) -> Tensor:
    return u.long().float()


def leaking(u: Tensor) -> Tensor:
    return functional.leaky_relu(u, 0.25)


def of_two_values(u: Tensor) -> Tensor:
    return torch.where(u > 0.0, 2.0, -1.0)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "threshold": floored,
    "nan_to_num": finite,
    "sigmoid then logit": kept_apart,
    "sigmoid then round": decided,
    "sigmoid then ge": decided_late,
    "round then trunc": counted,
    "clamp": bounded,
    "gt": positive,
    "floor then clamp_min": cut,
    "trunc": whole,
    "leaky_relu": leaking,
    "gt then where": of_two_values,
    "sign": torch.sign,
    "log_sigmoid": functional.logsigmoid,
    "hardtanh": functional.hardtanh,
    "reciprocal": torch.reciprocal,
}
"""By the name under which the product reports each."""

LINKS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda u: torch.softmax(u, 1),
    "log_softmax": lambda u: torch.log_softmax(u, 1),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "softplus": functional.softplus,
    "exp": torch.exp,
    "prelu then sigmoid then gt": lambda u: (
        torch.sigmoid(functional.prelu(u, torch.full([5], 0.25)))
        > torch.tensor([0.3, 0.45, 0.5, 0.55, 0.7])
    ).float(),
    **FUNCTIONS,
}
"""Those, and the ones that have a model of their own."""


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


class Linked(Headed):
    """Any function of the outputs."""

    def __init__(self, link: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.link = link

    def forward(self, x: Tensor) -> Tensor:
        return self.link(self.head(self.trunk(x)))


class Leaking(Headed):
    """A slope of its own for each negative output, and a threshold for each probability."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("thresholds", torch.tensor([0.3, 0.45, 0.5, 0.55, 0.7]))
        self.leak = nn.PReLU(5)

    def forward(self, x: Tensor) -> Tensor:
        u = self.leak(self.head(self.trunk(x)))
        return torch.gt(torch.sigmoid(u), self.thresholds).float()


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


class SingleStep(Headed):
    """A length of one step in time is taken off after the head, by a maximum."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x).unsqueeze(1)).max(dim=1)[0]


class SingleStepMean(Headed):
    """The same before the head and after the link, by means."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x).unsqueeze(1).mean(1).unsqueeze(2)
        return torch.softmax(self.head(h.sum(2)).unsqueeze(2), dim=1).mean(2)


class SinglePlace(Headed):
    """Pooled after the nonlinearity, over a map of one place."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(self.trunk(x)).sigmoid()[:, :, None, None]
        return functional.adaptive_max_pool2d(y, 1).flatten(1)


class SinglePlaceAveraged(Headed):
    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.head(self.trunk(x)))[:, :, None, None]
        return functional.adaptive_avg_pool2d(y, 1).amax(dim=[2, 3])


class SingleOutputSummed(Headed):
    """One output, whose axis is summed away."""

    def __init__(self) -> None:
        super().__init__(outputs=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x)).sum(-1)


class SingleOutputOfMany(SingleOutputSummed):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x)).sigmoid().amin(dim=1)


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

ONES: dict[type[nn.Module], Accepted] = {
    SingleStep: Accepted(of_head),
    SingleStepMean: Accepted(of_head, "softmax"),
    SinglePlace: Accepted(of_head, "sigmoid"),
    SinglePlaceAveraged: Accepted(of_head, "relu", warnings=("ends_in_activation",)),
    SingleOutputSummed: Accepted(of_head),
    SingleOutputOfMany: Accepted(of_head, "sigmoid"),
}

# What looks like a hidden layer's activation may be one.
ACTIVATIONS = {"relu", "softplus", "threshold", "hardtanh", "leaky_relu", "prelu"}

EXPORTED = {NormAfter, ClassIndex, OneOutputSqueezed}
EXPORTED_LINKS = {"softmax", "sigmoid"}


def tails() -> Iterator[Case]:
    written = (Softmax, LogSoftmax, Sigmoid, Tanh, Relu, Softplus, Exp, Leaking)
    for model, link in zip(written, LINKS, strict=False):
        ways = ("scripted", "exported") if link in EXPORTED_LINKS else ("scripted",)
        yield from cases("links", model, vectors, _linked(link), *ways)
    for link, function in FUNCTIONS.items():
        build = partial(Linked, function)
        name = f"linked_{link.replace(' ', '_')}"
        ways = ("scripted", "traced", "exported")
        yield from cases("links", build, vectors, _linked(link), *ways, name=name)
    for model, expected in ONES.items():
        yield from cases("ones", model, vectors, expected, "scripted", "traced", "exported")
    for family, table in (("affine", AFFINE), ("regression", REGRESSION)):
        for model, expected in table.items():
            ways = ("scripted", "frozen", *(["exported"] if model in EXPORTED else []))
            yield from cases(family, model, vectors, expected, *ways)


def _linked(link: str) -> Accepted:
    warnings = ("ends_in_activation",) if link.split(maxsplit=1)[0] in ACTIVATIONS else ()
    return Accepted(of_head, link, warnings=warnings)

"""Several linear layers that are one: on the same features, side by side, added, or in series."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from service.contract.failures import FailureCode
from zoo.case import Accepted, Batch, Case, Headed, Refused, Truth, cases, linear, series, vectors
from zoo.parts import Steps

ALL = ("scripted", "traced", "exported")
SUM = Refused(FailureCode.UNSUPPORTED_MODEL, "multiple_heads", ("add", "cat", "stack", "sub"))


class Pair(Headed):
    """Two heads on the same features."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(16, 4)


class SideBySide(Pair):
    """A classifier and the four numbers of a box."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return torch.cat([self.head(h), self.other(h)], dim=1)


class SideBySideBounded(Pair):
    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return torch.cat([self.other(h).sigmoid(), self.head(h).sigmoid()], dim=-1)


class SideBySideReduced(Pair):
    """One head sees the features, the other a linear map of them."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(16, 3)
        self.other = nn.Linear(3, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return torch.hstack([self.head(h), self.other(self.project(h))])


class MeanAndVariance(Headed):
    """Two heads of one output, stacked."""

    def __init__(self) -> None:
        super().__init__(outputs=1)
        self.other = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return torch.stack([self.head(h).squeeze(1), self.other(h).squeeze(1)], dim=1)


class OwnOrder(Headed):
    """Outputs of one layer, in another order."""

    def forward(self, x: Tensor) -> Tensor:
        u = self.head(self.trunk(x))
        return torch.cat([u[:, 3:], u[:, :3]], dim=1)


class SumOfTwo(Headed):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return self.head(h) + self.other(h)


class DifferenceOfTwo(SumOfTwo):
    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return torch.sub(self.head(h), self.other(h), alpha=0.5).softmax(1)


class Adapted(Headed):
    """A layer with a low-rank update, as adapters add it."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Linear(16, 2, bias=False)
        self.up = nn.Linear(2, 5, bias=False)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return self.head(h) + self.up(self.down(self.dropout(h))) * 0.5


class AdaptedByProduct(Adapted):
    """The same as matrix products, and the update first."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        update = (self.dropout(h) @ self.down.weight.t() @ self.up.weight.t()) * 0.5
        return update + self.head(h)


class AdaptedInPlace(Adapted):
    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        u = self.head(h)
        u += 0.5 * self.up(self.down(h))
        return torch.log_softmax(u, dim=1)


class AdaptedTwice(Adapted):
    """Two updates, one with a layer in its middle."""

    def __init__(self) -> None:
        super().__init__()
        self.middle = nn.Linear(2, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        u = self.head(h) + self.up(self.down(h)) * 0.5
        return u + self.up(self.middle(self.down(h)))


class AdaptedPerStep(Adapted):
    def features(self, x: Tensor) -> Tensor:
        return self.trunk(x)

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return (self.head(h) + self.up(self.down(h)) * 0.5).mean(dim=1)


def combined(*rows: tuple[float, str], joined: bool) -> Callable[[nn.Module, Batch], Truth]:
    """The truth of several layers on one Φ, side by side or added with factors."""

    def truth(model: nn.Module, batch: Batch) -> Truth:
        layers = [(factor, model.get_submodule(name)) for factor, name in rows]
        weights = [factor * layer.weight for factor, layer in layers]
        biases = [factor * layer.bias for factor, layer in layers]
        put = torch.cat if joined else (lambda parts: torch.stack(parts).sum(0))
        return linear(model.trunk(*batch), put(weights), put(biases))

    return truth


def of_reduced(model: nn.Module, batch: Batch) -> Truth:
    inner, outer = model.project, model.other
    weight = torch.cat([model.head.weight, outer.weight @ inner.weight])
    bias = torch.cat([model.head.bias, outer.weight @ inner.bias])
    return linear(model.trunk(*batch), weight, bias)


def of_order(model: nn.Module, batch: Batch) -> Truth:
    rows, head = [3, 4, 0, 1, 2], model.head
    return linear(model.trunk(*batch), head.weight[rows], head.bias[rows])


def of_update(model: nn.Module, batch: Batch) -> Truth:
    weight = model.head.weight + 0.5 * model.up.weight @ model.down.weight
    return linear(model.trunk(*batch), weight, model.head.bias)


def of_two_updates(model: nn.Module, batch: Batch) -> Truth:
    more = model.up.weight @ model.middle.weight @ model.down.weight
    weight = model.head.weight + 0.5 * model.up.weight @ model.down.weight + more
    return linear(model.trunk(*batch), weight, model.head.bias)


def of_mean_update(model: nn.Module, batch: Batch) -> Truth:
    weight = model.head.weight + 0.5 * model.up.weight @ model.down.weight
    return linear(model.trunk(*batch).mean(1), weight, model.head.bias)


def layers() -> Iterator[Case]:
    family, warned = "several_layers", ("several_layers",)
    both = combined((1.0, "head"), (1.0, "other"), joined=True)
    turned = combined((1.0, "other"), (1.0, "head"), joined=True)
    added = combined((1.0, "head"), (1.0, "other"), joined=False)
    taken = combined((1.0, "head"), (-0.5, "other"), joined=False)
    for model, expected in (
        (SideBySide, Accepted(both, warnings=warned)),
        (SideBySideBounded, Accepted(turned, "sigmoid", warnings=warned)),
        (MeanAndVariance, Accepted(both, warnings=warned)),
        (SumOfTwo, Accepted(added, warnings=warned)),
        (DifferenceOfTwo, Accepted(taken, "softmax", warnings=warned)),
        (SideBySideReduced, Accepted(of_reduced, warnings=("layers_in_series",))),
        (OwnOrder, Accepted(of_order)),
    ):
        yield from cases(family, model, vectors, expected, *ALL)
    warned = ("layers_in_series",)
    update = Accepted(of_update, warnings=warned)
    for model, expected, inputs in (
        (Adapted, update, vectors),
        (AdaptedByProduct, update, vectors),
        (AdaptedInPlace, Accepted(of_update, "log_softmax", warnings=warned), vectors),
        (AdaptedTwice, Accepted(of_two_updates, warnings=warned), vectors),
        (AdaptedPerStep, Accepted(of_mean_update, warnings=warned), series),
    ):
        yield from cases("adapters", model, inputs, expected, *ALL)
    yield from _look_alikes()


class TwoInPlaces(Pair):
    """Of two features, side by side."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.head(self.trunk(x)), self.other(self.trunk(2.0 * x))], dim=1)


class OverwrittenBetween(Pair):
    """The second head sees the same memory, with other values in it."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        u = self.head(h)
        h.mul_(2.0).tanh_()
        return torch.cat([u, self.other(h)], dim=1)


class PartsOfOtherHeads(Pair):
    """Each half of the batch has a head of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.trunk(x).chunk(2)
        return torch.cat([self.head(first), self.other(second)])


class StepsOfOtherHeads(Steps):
    """A head for each step."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(16, 4) for _ in range(9)])

    def forward(self, x: Tensor) -> Tensor:
        states = self.states(x)
        results: list[Tensor] = []
        for t, head in enumerate(self.heads):
            results.append(head(states[t]))
        return torch.stack(results, dim=1)


class OtherLinks(Pair):
    """Probabilities of classes beside a box."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return torch.cat([self.head(h).softmax(1), self.other(h).sigmoid()], dim=1)


class TwoSoftmaxes(Headed):
    """Each part of the outputs adds up to one."""

    def forward(self, x: Tensor) -> Tensor:
        u = self.head(self.trunk(x))
        return torch.cat([u[:, :2].softmax(1), u[:, 2:].softmax(1)], dim=1)


class SumOfProbabilities(SumOfTwo):
    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return self.head(h).sigmoid() + self.other(h).sigmoid()


class AdaptedElsewhere(Adapted):
    """The update sees other features."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x)) + self.up(self.down(self.trunk(x.flip(1))))


class AdaptedWithActivation(Adapted):
    """A nonlinearity between the two thin layers."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return self.head(h) + self.up(torch.relu(self.down(h)))


class PartsByWeight(Headed):
    """The layer's weight grows from one half of the batch to the other."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.trunk(x).chunk(2)
        grown = nn.functional.linear(second, 1.01 * self.head.weight, self.head.bias)
        return torch.cat([self.head(first), grown])


def _look_alikes() -> Iterator[Case]:
    for model in (
        TwoInPlaces,
        OverwrittenBetween,
        PartsOfOtherHeads,
        OtherLinks,
        TwoSoftmaxes,
        SumOfProbabilities,
        AdaptedElsewhere,
        AdaptedWithActivation,
        PartsByWeight,
    ):
        yield from cases("sums_of_heads", model, vectors, SUM, "scripted", "traced")
    yield from cases("sums_of_heads", StepsOfOtherHeads, series, SUM, "scripted", "traced")

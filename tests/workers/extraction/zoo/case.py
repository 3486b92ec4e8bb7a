"""What a case of the zoo is: a model, how it is saved, and what must be found in it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from service.contract.failures import FailureCode
from service.guide.families import Outcome
from zoo.saving import quiet, save

Batch = tuple[Tensor, ...]

DISCOVERY_ROWS, FRESH_ROWS, SETTLING_ROWS = 16, 37, 256
UNVERIFIED, NO_LINK = "unverified", "none"


@dataclass(frozen=True)
class Truth:
    """Φ [n·positions, p], u [n·positions, C], W [C, p] and b [C], from the model's own parts."""

    phi: Tensor
    outputs: Tensor
    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class Accepted:
    """What must be found.

    Attributes:
        truth: Computes the truth of any batch from the module in eager mode.
        link: What turns u into the answer; `UNVERIFIED` where a chosen layer leaves it open,
            `NO_LINK` where the model returns Φ alone: then its truth has no outputs.
        later: Warnings that further batches may add.
        answer: Takes, out of what the module returned, what `link(u)` must equal.
        choice: What the user declares, as keywords of the product's choice.
        precision: A key of `PRECISIONS`, whose limit holds for every value, relative to the
            largest one.
    """

    truth: Callable[[nn.Module, Batch], Truth]
    link: str = "identity"
    kind: str = "linear"
    positions: int = 1
    warnings: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    answer: Callable[[Any], Tensor] = lambda result: result
    choice: dict[str, str | int] = field(default_factory=dict)
    precision: str = "float32"

    @property
    def outcome(self) -> Outcome:
        return Outcome.CHOICE if self.choice else Outcome.WORKS


@dataclass(frozen=True)
class Refused:
    """What must be said: both codes, and one of these words in the message."""

    code: FailureCode
    detail: str
    says: tuple[str, ...]
    choice: dict[str, str | int] = field(default_factory=dict)
    outcome = Outcome.REFUSED


@dataclass(frozen=True)
class Case:
    """One archive."""

    name: str
    family: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int], Batch]
    way: str
    expected: Accepted | Refused
    saved_rows: int = 4

    @cached_property
    def model(self) -> nn.Module:
        torch.manual_seed(7)
        model = self.build()
        settle(model, self.batch(SETTLING_ROWS))
        return model.train(self.way.startswith("train_"))

    @cached_property
    def archive(self) -> bytes:
        return save(self.model, self.batch(self.saved_rows), self.way)

    def batch(self, rows: int) -> Batch:
        torch.manual_seed(rows)
        return self.inputs(rows)

    def truth(self, batch: Batch) -> Truth:
        assert isinstance(self.expected, Accepted)
        with torch.no_grad(), quiet():
            return self.expected.truth(self.model.eval(), batch)

    def answer(self, batch: Batch) -> Tensor:
        """What the model answers in eager mode."""
        assert isinstance(self.expected, Accepted)
        with torch.no_grad(), quiet():
            return self.expected.answer(self.model.eval()(*batch))


def settle(model: nn.Module, batch: Batch) -> None:
    """Gives batch norms factors that are not their defaults, and statistics as if trained."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.3)
        norm.momentum = 1.0
    if norms:
        with torch.no_grad():
            model.train()(*batch)
    for norm in norms:
        norm.momentum = 0.1


TORCHSCRIPT_WAYS = ("scripted", "traced", "frozen")
USUAL_WAYS = (*TORCHSCRIPT_WAYS, "exported")


def cases(
    family: str,
    build: Callable[[], nn.Module],
    inputs: Callable[[int], Batch],
    expected: Accepted | Refused,
    *ways: str,
    name: str = "",
    saved_rows: int = 4,
) -> Iterator[Case]:
    """One case for each way to save the model."""
    name = name or build.__name__.lower()
    for way in ways or USUAL_WAYS:
        yield Case(f"{name}-{way}", family, build, inputs, way, expected, saved_rows)


def vectors(rows: int) -> Batch:
    return (torch.randn(rows, 12),)


def images(rows: int) -> Batch:
    return (torch.randn(rows, 3, 16, 16),)


def series(rows: int) -> Batch:
    return (torch.randn(rows, 9, 12),)


def tokens(rows: int) -> Batch:
    """Ids of ten tokens, 0 after the end of a text, 49 at its end."""
    return (_ids(rows)[0],)


def masked_tokens(rows: int) -> Batch:
    return _ids(rows)


def _ids(rows: int) -> Batch:
    ids = torch.randint(1, 49, (rows, 10))
    length = torch.randint(3, 11, (rows, 1))
    place = torch.arange(10)
    ids = ids.masked_fill(place == length - 1, 49).masked_fill(place >= length, 0)
    return ids, (place < length).long()


def trunk(width: int = 16) -> nn.Sequential:
    return nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, width), nn.GELU())


class Headed(nn.Module):
    """A model with `features` and a linear `head`; Φ is what `features` gives."""

    def __init__(self, width: int = 16, outputs: int = 5, *, bias: bool = True) -> None:
        super().__init__()
        self.trunk = trunk(width)
        self.head = nn.Linear(width, outputs, bias=bias)

    def features(self, x: Tensor) -> Tensor:
        return self.trunk(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def linear(phi: Tensor, weight: Tensor, bias: Tensor | None) -> Truth:
    """The truth where u = Φ Wᵀ + b is computed as it is written."""
    outputs = phi @ weight.T
    return Truth(phi, outputs if bias is None else outputs + bias, weight, bias)


def of_layer(name: str) -> Callable[[nn.Module, Batch], Truth]:
    """The truth of a model with `features`, and a linear layer after them."""

    def truth(model: nn.Module, batch: Batch) -> Truth:
        head = model.get_submodule(name)
        return linear(model.features(*batch), head.weight, head.bias)

    return truth


of_head = of_layer("head")

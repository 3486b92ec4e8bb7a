"""Models that work once their user says what is meant."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from service.contract.failures import FailureCode
from zoo.case import (
    UNVERIFIED,
    Accepted,
    Batch,
    Case,
    Headed,
    Refused,
    Truth,
    cases,
    images,
    linear,
    of_head,
    vectors,
)
from zoo.maps import Fcn, of_places

WAYS = ("scripted", "traced")


class TwoHeads(Headed):
    """Two tasks, each with a head."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.trunk(x)
        return self.head(h), self.other(h)


class TwoNamedHeads(TwoHeads):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.trunk(x)
        return {"colour": self.head(h), "shape": torch.softmax(self.other(h), dim=1)}


class NestedHeads(TwoHeads):
    def forward(self, x: Tensor) -> dict[str, list[Tensor]]:
        h = self.trunk(x)
        return {"tasks": [self.head(h), self.other(torch.tanh(h))]}


class Detector(TwoHeads):
    """The scores of the classes, and four numbers of a box."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.trunk(x)
        return {"scores": self.head(h).softmax(1), "boxes": self.other(h).sigmoid()}


class HandWrittenSoftmax(Headed):
    """exp(u) / Σ exp(u), which no operation's name tells."""

    def forward(self, x: Tensor) -> Tensor:
        e = torch.exp(self.head(self.trunk(x)))
        return e / e.sum(dim=1, keepdim=True)


class Centred(Headed):
    """Subtracts from each sample's logits their mean."""

    def forward(self, x: Tensor) -> Tensor:
        u = self.head(self.trunk(x))
        return u - u.mean(dim=1, keepdim=True)


class BothClasses(Headed):
    """[1 − p, p] of one output."""

    def __init__(self) -> None:
        super().__init__(outputs=1)

    def forward(self, x: Tensor) -> Tensor:
        p = torch.sigmoid(self.head(self.trunk(x)))
        return torch.cat([1 - p, p], dim=1)


class Upsampled(Fcn):
    """Enlarges the outputs to the size of the image."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(self.body(x))
        return functional.interpolate(y, size=(16, 16), mode="bilinear", align_corners=False)


class LogitsAndFeatures(Headed):
    """The features come out of a linear layer and a ReLU, as an answer might."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(12, 24), nn.Tanh(), nn.Linear(24, 16), nn.ReLU())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.trunk(x)
        return self.head(h), h


class NamedFeatures(LogitsAndFeatures):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.trunk(x)
        return {"embedding": h, "logits": self.head(h)}


class HandWrittenWithFeatures(LogitsAndFeatures):
    """The features end in a linear layer, and the answer in nothing that can be followed."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.trunk(x)
        e = torch.exp(self.head(h))
        return {"embedding": h, "probabilities": e / e.sum(dim=1, keepdim=True)}


def of_other(model: nn.Module, batch: Batch) -> Truth:
    return linear(model.trunk(*batch), model.other.weight, model.other.bias)


def of_nested_other(model: nn.Module, batch: Batch) -> Truth:
    return linear(torch.tanh(model.trunk(*batch)), model.other.weight, model.other.bias)


def chosen() -> Iterator[Case]:
    yield from _outputs()
    yield from _modules()
    yield from _features()
    yield from _unknown()


def _ambiguous(*says: str) -> Refused:
    return Refused(FailureCode.UNSUPPORTED_MODEL, "ambiguous_output", says)


def _outputs() -> Iterator[Case]:
    family = "several_heads"
    for name, model, label, expected in (
        ("first", TwoHeads, "0", Accepted(of_head, answer=lambda r: r[0])),
        ("second", TwoHeads, "1", Accepted(of_other, answer=lambda r: r[1])),
        ("colour", TwoNamedHeads, "colour", Accepted(of_head, answer=lambda r: r["colour"])),
        (
            "shape",
            TwoNamedHeads,
            "shape",
            Accepted(of_other, "softmax", answer=lambda r: r["shape"]),
        ),
        ("scores", Detector, "scores", Accepted(of_head, "softmax", answer=lambda r: r["scores"])),
        ("boxes", Detector, "boxes", Accepted(of_other, "sigmoid", answer=lambda r: r["boxes"])),
        (
            "nested",
            NestedHeads,
            "tasks.1",
            Accepted(of_nested_other, answer=lambda r: r["tasks"][1]),
        ),
    ):
        declared = replace(expected, choice={"output": label})
        # The tracer takes no lists inside of a dict.
        ways = ("scripted", "exported") if model in {NestedHeads, TwoHeads} else WAYS
        yield from cases(family, model, vectors, declared, *ways, name=f"{name}chosen")
    for model, says in (
        (TwoHeads, ("0, 1",)),
        (TwoNamedHeads, ("colour",)),
        (Detector, ("boxes",)),
    ):
        yield from cases(
            family,
            model,
            vectors,
            _ambiguous(*says),
            *WAYS,
            name=f"{model.__name__.lower()}unchosen",
        )


def _modules() -> Iterator[Case]:
    family = "hidden_link"
    warnings = ("declared_head",)
    head = Accepted(of_head, UNVERIFIED, warnings=warnings, choice={"module": "head"})
    for model in (HandWrittenSoftmax, Centred, BothClasses):
        name = model.__name__.lower()
        ways = (*WAYS, "exported") if model is Centred else WAYS
        yield from cases(family, model, vectors, head, *ways, name=f"{name}chosen")
        # What is seen without a choice: a quotient, a difference and a join of two functions.
        unchosen = (
            Refused(FailureCode.HEAD_NOT_FOUND, "no_linear_head", ("div", "softmax"))
            if model is HandWrittenSoftmax
            else Refused(FailureCode.UNSUPPORTED_MODEL, "multiple_heads", ("sub", "cat"))
        )
        yield from cases(family, model, vectors, unchosen, *WAYS, name=f"{name}unchosen")
    # A frozen archive keeps no names; the head is the fifth operation, after two layers.
    fifth = replace(head, choice={"operation": 5})
    yield from cases(family, Centred, vectors, fifth, "frozen", name="operationchosen")
    places = replace(head, truth=of_places, kind="conv1x1", positions=16)
    yield from cases("upsampled", Upsampled, images, places, *WAYS, name="upsampledchosen")
    stopped = Refused(FailureCode.HEAD_NOT_FOUND, "no_linear_head", ("upsample",))
    yield from cases("upsampled", Upsampled, images, stopped, *WAYS, "exported")


def _features() -> Iterator[Case]:
    family = "features_returned"
    for model, label, logits in (
        (LogitsAndFeatures, "1", 0),
        (NamedFeatures, "embedding", "logits"),
    ):
        name = model.__name__.lower()
        declared = Accepted(
            of_head, answer=lambda r, key=logits: r[key], choice={"features_output": label}
        )
        yield from cases(family, model, vectors, declared, *WAYS, name=f"{name}chosen")
    unchosen = _ambiguous("embedding")
    yield from cases(family, HandWrittenWithFeatures, vectors, unchosen, *WAYS)


def _unknown() -> Iterator[Case]:
    """Choices of what the archive does not have."""
    for name, choice, says in (
        ("output", {"output": "weight"}, ("colour",)),
        ("features", {"features_output": "2"}, ("colour",)),
        ("module", {"module": "trunk.9"}, ("trunk.2.weight",)),
        ("several", {"module": "trunk"}, ("trunk.2.weight",)),
    ):
        expected = (
            Refused(FailureCode.HEAD_NOT_FOUND, "no_linear_head", says, choice)
            if "module" in choice
            else Refused(FailureCode.UNSUPPORTED_MODEL, "bad_output", says, choice)
        )
        yield from cases(
            "unknown_choice", TwoNamedHeads, vectors, expected, *WAYS, name=f"unknown{name}"
        )

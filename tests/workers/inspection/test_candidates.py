from typing import Protocol

import pytest
import torch
from torch import Tensor, nn

from workers.extraction import discover
from workers.extraction.trace.execution import copied, execute
from workers.extraction.trace.tape import Tape
from workers.inspection.candidates import (
    Candidate,
    candidate_steps,
    describe_candidates,
    find_endings,
)
from workers.protocol.errors import JobError


class Archive(Protocol):
    def __call__(self, model: nn.Module, example: Tensor, how: str = ...) -> nn.Module: ...


@torch.inference_mode()
def candidates(model: nn.Module, example: Tensor) -> list[Candidate]:
    taken: str | JobError
    try:
        taken = discover(model, (example,)).feature_map.output
    except JobError as error:
        taken = error
    inputs = copied((example,))
    tape = Tape(inputs)
    outputs = execute(model, inputs, tape)
    endings = find_endings(tape, outputs, model)
    return describe_candidates(candidate_steps(tape), tape, model, endings, taken)


VECTORS = torch.rand(4, 8)


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(8, 6)
        self.left = nn.Linear(6, 3)
        self.right = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = torch.relu(self.body(x))
        return {"left": self.left(h).softmax(1), "right": self.right(h)}


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        return torch.relu(h) * h


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(8, 8)
        self.last = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.body(x))
        return h + torch.tanh(self.last(h))


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.aside = nn.Linear(8, 2)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.aside(x)
        return self.head(x)


class Attention(nn.Module):
    """Multiplies two tensors that both depend on the input."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.matmul(torch.matmul(x, x.t()), x))


def test_the_head_is_taken_and_hidden_layers_are_not(archive: Archive) -> None:
    network = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3), nn.Softmax(1))
    hidden, head = candidates(archive(network, VECTORS), VECTORS)
    assert (head.location, head.kind, head.features, head.outputs) == ("2.weight", "linear", 6, 3)
    assert head.is_taken
    assert head.reason == "taken: the output is softmax of it."
    assert not hidden.is_taken
    assert hidden.reason == (
        "not taken: its result goes on to aten::relu (operation 2 of 4) → aten::linear "
        "(operation 3 of 4), another linear operation."
    )


@pytest.mark.parametrize("how", ["traced", "frozen"])
def test_operations_stand_in_for_names_that_are_gone(archive: Archive, how: str) -> None:
    network = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    found = candidates(archive(network, VECTORS, how), VECTORS)
    named = how == "traced"
    assert found[-1].location == ("2.weight" if named else "aten::linear (operation 3 of 3)")
    assert [candidate.is_taken for candidate in found] == [False, True]


def test_rival_heads_are_both_shown_with_the_refusal(archive: Archive) -> None:
    body, left, right = candidates(archive(TwoHeads(), VECTORS), VECTORS)
    assert [c.is_taken for c in (body, left, right)] == [False, False, False]
    assert left.reason.startswith("not taken, although the output `left` is softmax of it: ")
    assert right.reason.startswith("not taken, although the output `right` is its result: ")
    assert "left, right could each be the network's outputs" in right.reason
    assert "whose result goes into 2 operations" in body.reason


def test_what_ends_the_way_to_the_output_is_named(archive: Archive) -> None:
    (gated,) = candidates(archive(Gated(), VECTORS), VECTORS)
    assert gated.reason == (
        "not taken: its result goes into 2 operations: aten::relu (operation 2 of 3), aten::mul "
        "(operation 3 of 3)."
    )
    _, last = candidates(archive(Residual(), VECTORS), VECTORS)
    assert last.reason == (
        "not taken: its result goes on to aten::tanh (operation 4 of 5) → aten::add (operation 5 "
        "of 5), which combines 2 tensors that depend on the input."
    )


def test_a_layer_that_nothing_uses_is_no_rival(archive: Archive) -> None:
    aside, head = candidates(archive(Unused(), VECTORS), VECTORS)
    assert aside.reason == "not taken: its result is used by nothing that follows."
    assert head.is_taken


def test_products_of_two_inputs_are_no_candidates(archive: Archive) -> None:
    (head,) = candidates(archive(Attention(), VECTORS), VECTORS)
    assert head.location == "head.weight"


def test_convolutions_are_read_by_their_kernel(archive: Archive) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    images = torch.rand(4, 3, 16, 16)
    found = candidates(archive(network, images), images)
    assert [(c.kind, c.features, c.outputs) for c in found] == [
        ("conv3x3", 27, 4),
        (None, None, None),
        ("linear", 4, 2),
    ]


class WithFeatures(nn.Module):
    """Returns what its head sees as well, which itself comes out of a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(8, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = torch.relu(self.body(x))
        return {"features": h, "logits": self.head(h)}


def test_a_layer_on_the_way_to_the_answer_is_not_taken(archive: Archive) -> None:
    body, head = candidates(archive(WithFeatures(), VECTORS), VECTORS)
    assert (body.is_taken, head.is_taken) == (False, True)
    assert body.reason == (
        "not taken: the output `features` is relu of it, which lies on the way to `logits`."
    )


class SideBySide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(8, 6)
        self.right = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.left(x), self.right(x)], dim=1)


def test_layers_that_are_one_are_all_taken(archive: Archive) -> None:
    found = candidates(archive(SideBySide(), VECTORS), VECTORS)
    assert [candidate.is_taken for candidate in found] == [True, True]

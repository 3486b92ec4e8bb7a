"""A probe without targets that holds what could be some: the report says so, and what to set."""

import re
from typing import Any

import numpy as np
import pytest
from support import scripted
from torch import Tensor, nn

from tests.giving import specs_in
from tests.workers.analysis.analysed import Network, analysed

RNG = np.random.default_rng(0)
X = RNG.normal(size=(160, 6)).astype(np.float32)
MODEL = Network(6, 4, nn.Identity()).eval()
Y = MODEL.answers(X).argmax(1).numpy()
NAMES = np.array(["ant", "bee", "cow", "dog"])[Y]


def note(report: dict[str, Any]) -> str | None:
    found = [each for each in report["probe"]["notes"] if "taken for the targets" in each]
    assert len(found) <= 1
    return found[0] if found else None


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        ({"arr_0": X, "arr_1": Y}, "'arr_1'"),
        ({"arr_0": X, "arr_1": NAMES}, "'arr_1'"),
        ({"arr_0": X, "arr_1": Y[:, None]}, "'arr_1'"),
        ({"x": X, "fine_label": Y, "coarse_label": Y // 2}, "'fine_label', 'coarse_label'"),
        (
            {"x": X, "distances": X * 2, "rows": np.eye(4, dtype=int)[Y], "kind": Y},
            "'kind', 'rows'",
        ),
    ],
)
def test_arrays_that_could_be_the_targets_are_named(
    arrays: dict[str, np.ndarray], named: str
) -> None:
    report = analysed(MODEL, arrays, spec={"transform": {}})
    assert report["performance"]["accuracy"] is None
    said = note(report)
    assert said is not None
    assert f"{named} could be" in said
    # What is said works when it is done.
    (key,) = specs_in(said)
    again = analysed(MODEL, arrays, spec={"transform": {}, **key})
    assert note(again) is None
    assert again["performance"]["accuracy"] == 1


def test_values_are_named_too() -> None:
    model = Network(6, 1, nn.Identity()).eval()
    arrays = {"arr_0": X, "arr_1": model.answers(X)[:, 0].numpy() + 1}
    said = note(analysed(model, arrays))
    assert said is not None
    (key,) = specs_in(said)
    assert analysed(model, arrays, spec=key)["performance"]["loss"] == pytest.approx(1)


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": X},
        {"x": X, "y": Y},
        {"x": X, "distances": X * 2},
        {"x": X, "of_others": Y[:100]},
    ],
)
def test_nothing_is_said_where_no_array_could(arrays: dict[str, np.ndarray]) -> None:
    assert note(analysed(MODEL, arrays, spec={"transform": {}})) is None


def test_an_input_is_not_named() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(4, 8)
            self.trunk = nn.Linear(6, 8)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor, kind: Tensor) -> Tensor:
            answer: Tensor = self.head((self.trunk(x) + self.table(kind)).relu())
            return answer

    report = analysed(scripted(Two()), {"x": X, "kind": Y})
    assert note(report) is None
    assert re.search("kind ← 'kind'", " ".join(report["probe"]["notes"]))


def test_nothing_is_said_to_one_who_wants_no_targets() -> None:
    arrays = {"arr_0": X, "arr_1": Y}
    assert note(analysed(MODEL, arrays, spec={"transform": {}, "target": None})) is None

"""Tables whose columns are one input: what the report says was used, and what was not."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from giving import Given, close, give_file, refused_file, specs_in
from torch import nn

ROWS = 60
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "age": RNG.integers(20, 90, ROWS),
        "height": RNG.normal(1.7, 0.1, ROWS),
        "weight": RNG.normal(70, 9, ROWS),
        "label": np.arange(ROWS) % 3,
    }
)
ALL = ["age", "height", "weight"]


def written(frame: pd.DataFrame, kind: str) -> bytes:
    if kind == "csv":
        return frame.to_csv(index=False).encode()
    file = io.BytesIO()
    frame.to_parquet(file, index=False)
    return file.getvalue()


def network(columns: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(columns, 16), nn.ReLU(), nn.Linear(16, 3)).eval()


def notes_of(given: Given) -> str:
    return " ".join([*given.fitted.notes, *given.fitted.probe.notes])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("spec", [{}, {"input": "*"}, {"input": "*", "columns": ALL}])
def test_columns_side_by_side_are_all_used(kind: str, spec: dict[str, object]) -> None:
    model = network(3)
    given = give_file(model, written(FRAME, kind), spec)
    with torch.inference_mode():
        expected = model[:2](torch.tensor(FRAME[ALL].to_numpy(np.float32)))
    assert close(given.phi, expected)
    assert "not used" not in notes_of(given)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("spec", "used"),
    [
        ({"exclude": ["weight", "name"]}, ["age", "height"]),
        ({"columns": ["height", "age"]}, ["height", "age"]),
    ],
)
def test_columns_that_are_left_out_are_said(
    kind: str, spec: dict[str, object], used: list[str]
) -> None:
    model = network(2)
    frame = FRAME.assign(name=[f"person {row}" for row in range(ROWS)])
    given = give_file(model, written(frame, kind), {"target": "label", **spec})
    with torch.inference_mode():
        expected = model[:2](torch.tensor(frame[used].to_numpy(np.float32)))
    assert close(given.phi, expected)
    # Who excludes columns knows that they are not used.
    assert ("got it: 'weight', 'name'." in notes_of(given)) == ("columns" in spec)


def test_a_column_beside_one_of_lists_is_said() -> None:
    """Nothing is put side by side here, so the number is left over."""
    lists = FRAME[ALL].to_numpy(np.float32)
    frame = pd.DataFrame({"x": list(lists), "age": FRAME["age"], "label": FRAME["label"]})
    given = give_file(network(3), written(frame, "parquet"), {})
    assert "got it: 'age'." in notes_of(given)


class Rating(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.items = nn.Embedding(50, 8)
        self.users = nn.Embedding(50, 8)
        self.head = nn.Linear(16, 1)

    def phi(self, item: torch.Tensor, user: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.cat([self.items(item), self.users(user)], 1))

    def forward(self, item: torch.Tensor, user: torch.Tensor) -> torch.Tensor:
        return self.head(self.phi(item, user))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_columns_may_go_to_arguments(kind: str) -> None:
    frame = pd.DataFrame(
        {
            "user": RNG.integers(0, 50, ROWS),
            "item": RNG.integers(0, 50, ROWS),
            "label": RNG.normal(size=ROWS),
        }
    )
    model = Rating().eval()
    failure = refused_file(model, written(frame, kind))
    (answer,) = specs_in(failure.hint)
    assert answer == {"input": {"item": "item", "user": "user"}}
    given = give_file(model, written(frame, kind), answer)
    expected = model.phi(*(torch.tensor(frame[name].to_numpy()) for name in ("item", "user")))
    assert close(given.phi, expected.detach())


@pytest.mark.parametrize("names", [("x", "y", "elevation"), ("X", "Y", "Zone")])
def test_a_column_y_beside_x_and_more_may_be_a_coordinate(names: tuple[str, str, str]) -> None:
    rng = np.random.default_rng(0)
    table = rng.standard_normal((60, 3)).astype("f4")
    text = "\n".join([",".join(names), *(",".join(f"{v:.6f}" for v in row) for row in table)])
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))
    failure = refused_file(model, text.encode())
    answers = [spec["target"] for spec in specs_in(failure.hint)]
    assert answers == [names[1], names[2], None]
    given = give_file(model, text.encode(), {"target": names[2]})
    expected = model[:2](torch.tensor(table[:, :2])).detach()
    assert close(given.phi, expected)


def test_a_column_y_beside_x_alone_is_the_target() -> None:
    text = "x,y\n" + "\n".join(f"{k / 7},{k * k / 9}" for k in range(60))
    model = nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 1))
    given = give_file(model, text.encode())
    assert given.fitted.probe.spec.target == "y"

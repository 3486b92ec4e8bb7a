"""A model that takes more than a probe has: what is said of each array is so."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from giving import give, refused, refused_file
from torch import Tensor, nn

ROWS = 60
RNG = np.random.default_rng(0)
X = RNG.standard_normal((ROWS, 7)).astype(np.float32)
LABELS = np.arange(ROWS) % 4
LENGTHS = RNG.integers(1, 8, ROWS)
WORDS = np.array(["a"] * ROWS)
NAMED = "spec names"


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(7, 4)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.head(torch.relu(first + second))


class Optional(nn.Module):
    """What it must be given is called otherwise than what it may be given."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(7, 4)

    def forward(self, pixels: Tensor, x: Tensor | None = None) -> Tensor:
        return self.head(torch.relu(pixels if x is None else pixels + x))


def test_the_only_array_is_said_to_be_it() -> None:
    failure = refused(Two(), x=X, y=LABELS)
    assert "the probe gives array 'x', the only one that can be an input." in failure.message
    assert NAMED not in failure.message
    assert "It also has" not in failure.message


def test_a_customary_name_is_said_to_be_one() -> None:
    failure = refused(Two(), x=X, more=X[:9], y=LABELS)
    assert "the probe gives array 'x', which has a customary name of inputs." in failure.message
    assert "It also has array 'more', with other samples (9, not 60)." in failure.message
    assert NAMED not in failure.message


def test_the_largest_array_is_said_to_be_it() -> None:
    failure = refused(Two(), train=X, test=X[:9], y=LABELS)
    assert "the probe gives array 'train', the largest with rows of numbers." in failure.message
    assert "It also has array 'test', with other samples (9, not 60)." in failure.message
    assert NAMED not in failure.message


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_columns_of_a_table_are_said_to_be_side_by_side(kind: str) -> None:
    frame = pd.DataFrame({**{f"c{k}": X[:, k] for k in range(7)}, "id": WORDS, "label": LABELS})
    file = io.BytesIO()
    if kind == "csv":
        frame.to_csv(file, index=False)
    else:
        frame.to_parquet(file, index=False)
    spec = {"target": "label", "exclude": ["id", "c6"]}
    failure = refused_file(Two(), file.getvalue(), spec)
    said = "the probe gives its columns of numbers, side by side as one array '*'."
    assert said in failure.message
    assert NAMED not in failure.message
    assert "array 'c6', not among the columns side by side" in failure.message
    assert "array 'id', with no numbers" in failure.message


class Graph(nn.Module):
    """Samples are the nodes of one graph."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(7, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        f = torch.relu(self.body(x))
        return self.head(torch.zeros_like(f).index_add_(0, edge_index[1], f[edge_index[0]]))


EDGES = RNG.integers(0, ROWS, (2, 200))
NO_GRAPH = "One graph over all samples cannot be analysed"


@pytest.mark.parametrize("spec", [None, {"input": "x"}])
@pytest.mark.parametrize("edges", [EDGES, EDGES.T])
def test_one_graph_over_all_samples_is_said_to_be_none(
    spec: dict[str, object] | None, edges: np.ndarray
) -> None:
    failure = refused(Graph(), spec, x=X, edge_index=edges, y=LABELS)
    assert f"array 'edge_index', with other samples ({len(edges)}, not 60)" in failure.message
    assert failure.hint is not None
    assert failure.hint.startswith("The argument 'edge_index' cannot be given the array of its")
    assert "needs one row for each sample" in failure.hint
    assert NO_GRAPH in failure.hint
    assert '"edge_index": "array' not in failure.hint


def test_it_is_said_where_a_spec_gives_it_all_the_same() -> None:
    spec = {"input": {"x": "x", "edge_index": "edge_index"}}
    failure = refused(Graph(), spec, x=X, edge_index=EDGES, y=LABELS)
    assert "'edge_index' holds 2 samples" in failure.message
    assert failure.hint is not None
    assert NO_GRAPH in failure.hint


def test_several_arrays_without_a_spec_are_what_the_probe_has() -> None:
    failure = refused(nn.Bilinear(7, 7, 4), x=X, words=WORDS, more=X[:9], y=LABELS)
    assert NAMED not in failure.message
    assert "array 'words', with no numbers; array 'more', with other samples" in failure.message


def test_an_array_that_the_spec_leaves_out_is_said_to_be() -> None:
    arrays = {"x": X, "lengths": LENGTHS, "words": WORDS, "more": X[:9], "one": np.float32(3)}
    failure = refused(Two(), {"input": "x"}, **arrays, y=LABELS)
    assert "the probe's spec names array 'x'." in failure.message
    assert "array 'lengths', not among the inputs that the spec names" in failure.message
    assert "array 'words', with no numbers" in failure.message
    assert "array 'more', with other samples (9, not 60)" in failure.message
    assert "array 'one', with a single number" in failure.message
    assert "or no numbers" not in failure.message


def test_arrays_that_are_alike_are_said_together() -> None:
    failure = refused(Two(), {"input": "x"}, x=X, a=LENGTHS, b=LENGTHS, y=LABELS)
    said = "It also has arrays 'a', 'b', not among the inputs that the spec names."
    assert said in failure.message


def test_a_name_that_an_optional_argument_has_is_warned_about_as_it_is() -> None:
    given = give(Optional(), x=X, y=LABELS)
    (warning,) = given.fitted.warnings
    assert warning.startswith("argument_names: the probe gives array 'x', the only one")
    assert "it went to the model's argument 'pixels'" in warning
    assert "spec" not in warning


def test_a_spec_that_gives_an_array_to_another_argument_is_warned_about() -> None:
    given = give(Optional(), {"input": "x"}, x=X, more=X, y=LABELS)
    (warning,) = given.fitted.warnings
    assert "the probe's spec gives the array 'x' to the model's argument 'pixels'" in warning


def test_what_is_told_of_many_arrays_stays_short() -> None:
    names = [f"{'n' * 190}{k}" for k in range(40)]
    others = {name: X[: k + 1] for k, name in enumerate(names)}
    failure = refused(Two(), x=X, y=LABELS, **others)
    assert sum(name in failure.message for name in names) == 8
    assert failure.message.endswith("….")


def test_an_argument_that_is_not_there_is_the_models_and_an_array_the_probes() -> None:
    spec = {"input": {"first": "x", "third": "more"}}
    failure = refused(Two(), spec, x=X, more=X, words=WORDS, y=LABELS)
    assert "the probe's spec names arrays for first, third." in failure.message
    assert "no argument 'third'. The probe also has array 'words', with no num" in failure.message

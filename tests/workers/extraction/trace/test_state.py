"""Models that write to themselves while they run: told, and judged as they were saved."""

import io

import numpy as np
import pytest
import torch
from giving import close, give
from support import scripted
from torch import Tensor, nn

from workers.extraction import discover, load_model

X = np.random.default_rng(0).standard_normal((200, 6)).astype("f4") * 3 + 1
Y = np.arange(200) % 4


class Initialised(nn.Module):
    """Takes its scale from the first batch that it sees, as activation norms do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.register_buffer("is_set", torch.tensor(False))
        self.register_buffer("spread", torch.ones(6))
        self.body = nn.Linear(6, 8)
        self.head = nn.Linear(8, 4)

    def phi(self, x: Tensor) -> Tensor:
        if not bool(self.is_set):
            self.spread.copy_(x.std(0))
            self.is_set.fill_(True)
        return torch.relu(self.body(x / self.spread))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.phi(x))


class Counting(nn.Module):
    calls: int

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.body = nn.Linear(6, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > 1000:
            x = -x
        return self.head(torch.relu(self.body(x)))


def warnings(model: nn.Module) -> list[str]:
    loaded = load_model(io.BytesIO(scripted(model.eval())))
    return list(discover(loaded, (torch.tensor(X[:64]),)).feature_map.warnings)


@pytest.mark.parametrize(
    ("model", "names"), [(Initialised(), "`is_set`, `spread`"), (Counting(), "`calls`")]
)
def test_what_a_model_writes_to_itself_is_told(model: nn.Module, names: str) -> None:
    (warning,) = warnings(model)
    assert warning.startswith(f"stateful: running the model changes what it holds itself, {names},")


def test_other_models_have_no_state() -> None:
    assert (
        warnings(nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)))
        == []
    )


def test_the_first_samples_are_those_of_the_analysis_not_those_that_were_tried() -> None:
    model = Initialised().eval()
    given = give(scripted(model), x=X, y=Y)
    with torch.inference_mode():
        expected = torch.cat([model.phi(torch.tensor(X[k : k + 64])) for k in range(0, 200, 64)])
    assert close(given.phi, expected)


class Ticking(Initialised):
    """Counts its runs in a buffer, and never looks at it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.head(torch.relu(self.body(x)))


def test_a_model_with_state_runs_once_for_each_batch() -> None:
    """Runs on a part of a batch, to see whether its samples are independent, would count."""
    loaded = load_model(io.BytesIO(scripted(Ticking().eval())))
    extractor = discover(loaded, (torch.tensor(X[:64]),))
    before = int(loaded.calls)
    for start in range(0, 192, 64):
        extractor.run((torch.tensor(X[start : start + 64]),))
    assert int(loaded.calls) == before + 3


class Graph(nn.Module):
    """Holds a sparse matrix, whose values cannot be compared with another's."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.register_buffer("neighbours", torch.eye(6).to_sparse())
        self.body = nn.Linear(6, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(torch.sparse.mm(self.neighbours, x.t()).t())))


def test_a_sparse_buffer_does_no_harm() -> None:
    model = Graph().eval()
    given = give(scripted(model), x=X, y=Y)
    with torch.inference_mode():
        assert close(given.phi, torch.relu(model.body(torch.tensor(X))))

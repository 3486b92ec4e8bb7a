"""Figures of the model's answer, and of several labels a sample, through the running product."""

import io
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from support import npz, traced
from torch import Tensor, nn
from torch.nn import functional

from service.client import AnalysisFailedError, Client

pytestmark = pytest.mark.xdist_group("stack")

N, INPUTS = 400, 12
RNG = np.random.default_rng(3)
X = RNG.standard_normal((N, INPUTS), dtype=np.float32)


class Linked(nn.Module):
    """A small network with a link after its head, trained on what it returns."""

    def __init__(self, outputs: int, link: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Linear(INPUTS, 24)
        self.head = nn.Linear(24, outputs)
        self.link = link

    def forward(self, x: Tensor) -> Tensor:
        return self.link(self.head(torch.relu(self.trunk(x))))

    def trained(self, loss: Callable[[Tensor, Tensor], Tensor], targets: np.ndarray) -> "Linked":
        optimizer = torch.optim.Adam(self.parameters(), 1e-2)
        for _ in range(200):
            optimizer.zero_grad()
            loss(self(torch.from_numpy(X)), torch.from_numpy(targets)).backward()
            optimizer.step()
        return self.eval()

    @torch.inference_mode()
    def answers(self) -> np.ndarray:
        found: np.ndarray = self(torch.from_numpy(X)).numpy()
        return found


def upload(client: Client, model: nn.Module) -> str:
    content = io.BytesIO(traced(model, torch.from_numpy(X[:2])))
    return str(client.upload_model(content, name=f"answers-{uuid.uuid4().hex}")["id"])


def register(client: Client, targets: np.ndarray, **spec: Any) -> dict[str, Any]:
    content = io.BytesIO(npz(x=X, y=targets))
    return client.register_probe(content, name=f"answers-{uuid.uuid4().hex}", spec=spec)


def test_one_minus_a_sigmoid_is_right_where_it_says_so(client: Client) -> None:
    labels = (X[:, 0] > 0).astype(np.int64)
    model = Linked(1, lambda u: 1 - torch.sigmoid(u)).trained(
        functional.binary_cross_entropy, labels[:, None].astype(np.float32)
    )
    report = client.analyse(upload(client, model), register(client, labels)["id"])
    f = model.answers()[:, 0]
    assert report["performance"]["accuracy"] == ((f > 0.5) == labels).mean() > 0.95
    losses = functional.binary_cross_entropy(
        torch.from_numpy(f).double(), torch.from_numpy(labels).double()
    )
    assert report["performance"]["loss"] == pytest.approx(float(losses), rel=1e-4)
    assert report["performance"]["loss_kind"] == "binary_cross_entropy"
    assert report["feature_map"]["answer"] == "probabilities of each output"
    assert report["verdict"]["assessment"]["skill"] > 0.9


def test_values_through_a_softplus(client: Client) -> None:
    values = np.log1p(np.exp(X[:, :2])).astype(np.float32)
    model = Linked(2, functional.softplus).trained(functional.mse_loss, values)
    probe = register(client, values.astype(np.float64))
    report = client.analyse(upload(client, model), probe["id"])
    squared = ((model.answers() - values) ** 2).mean()
    assert report["performance"]["loss"] == pytest.approx(squared, rel=1e-4)
    skill = 1 - squared / values.var(0).mean()
    assert skill > 0.9
    assert report["verdict"]["assessment"]["skill"] == pytest.approx(skill, rel=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "uint8", "bool"])
def test_several_labels_a_sample(client: Client, dtype: str) -> None:
    labels = X[:, :3] > (0.0, 0.8, 1.5)
    model = Linked(3, torch.sigmoid).trained(
        functional.binary_cross_entropy, labels.astype(np.float32)
    )
    probe = register(client, labels.astype(dtype), task="multilabel")
    assert probe["spec"]["task"] == "multilabel"
    identifier = upload(client, model)
    report = client.analyse(identifier, probe["id"], options={"eval_probe": probe["id"]})
    f = model.answers()
    for part in (report["performance"], report["held_out"]["performance"]):
        assert part["accuracy"] == pytest.approx(((f >= 0.5) == labels).mean())
        assert part["subset_accuracy"] == ((f >= 0.5) == labels).all(1).mean()
        precision = average_precision_score(labels, f)
        assert part["average_precision"] == pytest.approx(precision, abs=1e-9)
    assert report["probe"]["class_counts"] == labels.sum(0).tolist()
    assert report["neural_collapse"] is None
    assert report["verdict"]["minimality"]["rank"] == 3
    assert report["verdict"]["assessment"]["skill"] > 0.8
    weighted = client.analyse(identifier, probe["id"], options={"class_weighting": "balanced"})
    assert any("labels count alike" in text for text in weighted["verdict"]["warnings"])


def test_other_labels_than_the_model_has_are_refused_with_a_way_out(client: Client) -> None:
    identifier = upload(client, Linked(3, torch.sigmoid).eval())
    labels = RNG.integers(0, 2, (N, 4))
    probe = register(client, labels, task="multilabel")
    with pytest.raises(AnalysisFailedError) as caught:
        client.analyse(identifier, probe["id"])
    error = caught.value.analysis["error"]
    assert "3 outputs and the probe 4 labels" in error["message"]
    assert '"target": null' in error["hint"]
    report = client.analyse(identifier, register(client, labels, target=None)["id"])
    assert report["performance"]["accuracy"] is None

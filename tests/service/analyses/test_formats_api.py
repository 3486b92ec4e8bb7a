"""Models in both formats, and choices of their owners, through the running product."""

import io
import uuid
from collections.abc import Iterator

import httpx
import pytest
import torch
from support import exported, scripted
from torch import Tensor, nn

from service.client import AnalysisFailedError, Client

pytestmark = pytest.mark.xdist_group("stack")

IMAGES = torch.zeros(2, 1, 8, 8)


class Network(nn.Module):
    """A convolutional network for the built-in digits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(256, 48),
            nn.ReLU(),
        )
        self.fc = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.trunk(x))


class TwoHeads(Network):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(48, 12)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.trunk(x)
        return {"logits": self.fc(h), "style": self.other(h)}


class Probabilities(Network):
    """A softmax by hand, through which no linear layer can be seen."""

    def forward(self, x: Tensor) -> Tensor:
        e = torch.exp(self.fc(self.trunk(x)))
        return e / e.sum(dim=1, keepdim=True)


class WithFeatures(Network):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.trunk(x)
        e = torch.exp(self.fc(h))
        return e / e.sum(dim=1, keepdim=True), h


def send(client: Client, archive: bytes) -> str:
    return str(client.upload_model(io.BytesIO(archive), name=f"m-{uuid.uuid4()}")["id"])


def numbers(value: object, path: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a document with its place."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from numbers(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from numbers(item, f"{path}.{index}")
    elif isinstance(value, float):
        yield path, value


def test_both_formats_of_a_network_give_the_same_report(client: Client) -> None:
    archives = [scripted(Network()), exported(Network(), IMAGES)]
    models = [send(client, archive) for archive in archives]
    formats = [client.get(f"/v1/models/{model}")["format"] for model in models]
    assert formats == ["torchscript", "torch_export"]
    one, other = (client.analyse(model, "builtin:digits") for model in models)
    for part in ("feature_map", "spectrum", "projections", "effective_rank", "verdict"):
        found, expected = dict(numbers(one[part])), dict(numbers(other[part]))
        assert found.keys() == expected.keys()
        assert found == pytest.approx(expected, abs=1e-6)
    assert one["feature_map"]["location"] == other["feature_map"]["location"] == "fc.weight"
    assert one["verdict"]["regime"] == other["verdict"]["regime"]
    assert one["model"]["parameters"] == other["model"]["parameters"]


def test_an_ambiguous_model_is_refused_until_its_owner_chooses(client: Client) -> None:
    model = send(client, scripted(TwoHeads()))
    with pytest.raises(AnalysisFailedError) as failed:
        client.analyse(model, "builtin:digits")
    error = failed.value.analysis["error"]
    assert (error["code"], error["detail"]["code"]) == ("unsupported_model", "ambiguous_output")
    assert error["detail"]["candidates"] == ["logits", "style"]
    report = client.analyse(model, "builtin:digits", {"feature_map": {"output": "logits"}})
    assert report["feature_map"]["output"] == "logits"
    assert report["feature_map"]["verified"]
    assert report["provenance"]["options"]["feature_map"]["output"] == "logits"


def test_a_declared_layer_is_marked_as_unverified(client: Client) -> None:
    model = send(client, exported(Probabilities(), IMAGES))
    options = {"feature_map": {"module": "fc"}}
    feature_map = client.analyse(model, "builtin:digits", options)["feature_map"]
    assert (feature_map["location"], feature_map["verified"]) == ("fc.weight", False)
    assert feature_map["weights"]["shape"] == [10, 48]
    assert feature_map["warnings"][0].startswith("declared_head: ")


def test_declared_features_come_with_the_part_no_linear_layer_explains(client: Client) -> None:
    model = send(client, scripted(WithFeatures()))
    options = {"feature_map": {"features_output": 1}}
    feature_map = client.analyse(model, "builtin:digits", options)["feature_map"]
    assert (feature_map["location"], feature_map["verified"]) == ("result 1", False)
    assert feature_map["weights"] is None
    # The softmax of a fresh network is nearly linear in its features, but not quite.
    assert 1e-6 < feature_map["consistency_residual"] < 0.5


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ({}, "names nothing"),
        ({"module": "fc", "operation": 3}, "exclude each other"),
        ({"layer": "fc"}, "unknown key"),
        ("best", "or 'auto'"),
    ],
)
def test_a_choice_that_cannot_be_meant_is_refused(
    http: httpx.Client, choice: object, says: str
) -> None:
    body = {
        "model": str(uuid.uuid4()),
        "probe": "builtin:digits",
        "options": {"feature_map": choice},
    }
    response = http.post("/v1/analyses", json=body)
    assert response.status_code == 422
    assert says in response.text

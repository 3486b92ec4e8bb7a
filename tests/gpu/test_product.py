"""A worker with a GPU, asked over HTTP."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support import Stack, running_stack, scripted
from torch import nn

from service.client import Client


class Convolutional(nn.Module):
    """A small network for the digits' images."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten()
        )
        self.head = nn.Linear(512, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.features(x.reshape(-1, 1, 8, 8)))
        return logits


class Named(Convolutional):
    """It names the CPU in its code, as traced models do that make tensors."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shift = torch.zeros(8, device=torch.device("cpu"))
        logits: torch.Tensor = self.head(self.features((x + shift).reshape(-1, 1, 8, 8)))
        return logits


class AtHome(Convolutional):
    """It makes a tensor, and does not say where: scripted code means the CPU then."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shift = torch.zeros(8)
        logits: torch.Tensor = self.head(self.features((x + shift).reshape(-1, 1, 8, 8)))
        return logits


@pytest.fixture(scope="module")
def gpu_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    data = tmp_path_factory.mktemp("gpu") / "data"
    with running_stack(data, PHISCOPE_DEVICE="cuda") as running:
        yield running


@pytest.fixture(scope="module")
def gpu_client(gpu_stack: Stack) -> Iterator[Client]:
    with gpu_stack.client() as client:
        yield client


def report(client: Client, model: nn.Module, **options: Any) -> Any:
    uploaded = client.upload_model(io.BytesIO(scripted(model)), name="on-a-gpu")
    return client.analyse(uploaded["id"], "builtin:digits", options=options)


def scalars(found: Any) -> dict[str, float]:
    return found["verdict"]["minimality"]


def test_figures_agree_with_those_of_the_cpu(gpu_client: Client) -> None:
    on_gpu = report(gpu_client, Convolutional(), device="cuda", layers="all")
    on_cpu = report(gpu_client, Convolutional(), device="cpu", layers="all")
    assert on_gpu["provenance"]["device"] == "cuda"
    assert on_gpu["provenance"]["device_name"]
    assert on_cpu["provenance"]["device"] == "cpu"
    solvers = [found["provenance"]["solver"]["device"] for found in (on_gpu, on_cpu)]
    assert solvers == ["cuda", "cpu"]
    assert on_gpu["feature_map"]["warnings"] == []
    for name, value in scalars(on_cpu).items():
        if isinstance(value, float):
            assert scalars(on_gpu)[name] == pytest.approx(value, rel=1e-3), name
    assert on_gpu["spectrum"]["eigenvalues"][:20] == pytest.approx(
        on_cpu["spectrum"]["eigenvalues"][:20], rel=1e-4
    )
    assert [layer["name"] for layer in on_gpu["layers"]] == [
        layer["name"] for layer in on_cpu["layers"]
    ]


def test_a_small_layer_is_diagonalized_on_the_cpu(gpu_client: Client) -> None:
    small = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    provenance = report(gpu_client, small)["provenance"]
    assert (provenance["device"], provenance["solver"]["device"]) == ("cuda", "cpu")


def test_a_model_that_names_the_cpu_runs_on_the_gpu(gpu_client: Client) -> None:
    found = report(gpu_client, Named())
    assert found["provenance"]["device"] == "cuda"
    (warning,) = found["feature_map"]["warnings"]
    assert warning.startswith("device_remapped: ")


def test_a_model_that_makes_tensors_on_the_cpu_runs_there(gpu_client: Client) -> None:
    found = report(gpu_client, AtHome())
    assert found["provenance"]["device"] == "cpu"
    assert any(text.startswith("ran_on_cpu: ") for text in found["feature_map"]["warnings"])

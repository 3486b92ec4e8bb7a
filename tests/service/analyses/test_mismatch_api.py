"""A model that does not fit the probe, through the running product: sent, told why, and mended."""

import io
import json
import uuid
from typing import Any

import numpy as np
import pytest
import torch
from support import Digits, flattening, multilayer, npz, scripted
from torch import nn

from service.client import AnalysisFailedError, Client

pytestmark = pytest.mark.xdist_group("stack")

AS_STORED: dict[str, object] = {}
BYTE_SCALE = 0.00392156862745098
LABELS = np.arange(120) % 10
COLOURS = np.random.default_rng(0).integers(256, size=(120, 9, 9, 3), dtype=np.uint8)


def convolutional(channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 10),
    )  # fmt: skip


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.fc = nn.Linear(16, 10)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.relu(self.embedding(tokens).mean(1)))


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 10)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.fc(input_ids * attention_mask)


def upload(client: Client, model: nn.Module | bytes) -> str:
    content = model if isinstance(model, bytes) else scripted(model)
    return str(client.upload_model(io.BytesIO(content), name=f"m-{uuid.uuid4()}")["id"])


def register(client: Client, x: np.ndarray, transform: object = None) -> str:
    spec = None if transform is None else {"transform": transform}
    content = io.BytesIO(npz(x=x, y=LABELS[: len(x)]))
    return str(client.register_probe(content, name=f"p-{uuid.uuid4()}", spec=spec)["id"])


def failure(client: Client, model: str, probe: str) -> dict[str, Any]:
    with pytest.raises(AnalysisFailedError) as failed:
        client.analyse(model, probe)
    error: dict[str, Any] = failed.value.analysis["error"]
    assert error["code"] == "input_mismatch"
    return error


@pytest.mark.parametrize(
    ("x", "transform", "expected", "suggestion"),
    [
        pytest.param(
            COLOURS.astype(np.float32) / 255, AS_STORED, "takes 3 channels",
            {"layout": "NHWC->NCHW"}, id="channels-last",
        ),
        pytest.param(
            COLOURS, AS_STORED, "takes 3 channels",
            {"layout": "NHWC->NCHW", "scale": BYTE_SCALE}, id="bytes",
        ),
    ],
)  # fmt: skip
def test_the_suggested_spec_makes_it_run(
    client: Client,
    x: np.ndarray,
    transform: dict[str, object],
    expected: str,
    suggestion: dict[str, object],
) -> None:
    model = upload(client, convolutional())
    error = failure(client, model, register(client, x, transform))
    assert expected in error["message"]
    assert error["detail"]["suggestion"] == suggestion
    assert f'"transform": {json.dumps(suggestion)}' in error["hint"]
    report = client.analyse(model, register(client, x, error["detail"]["suggestion"]))
    assert report["feature_map"]["outputs"] == 10


def test_grey_images_for_a_colour_network_name_both_numbers(client: Client) -> None:
    grey = COLOURS[:, None, :, :, 0] / np.float32(255)
    error = failure(client, upload(client, convolutional()), register(client, grey, AS_STORED))
    assert "takes 3 channels on axis 1 of 4" in error["message"]
    assert "was given 1, in shape [16, 1, 9, 9] (float32)" in error["message"]
    assert "suggestion" not in error["detail"]
    assert error["detail"]["expected"]["channels"] == 3


def test_tokens_beyond_the_vocabulary_name_both_ends(client: Client) -> None:
    tokens = np.random.default_rng(0).integers(40, size=(120, 7))
    tokens[3, 2] = 60
    error = failure(client, upload(client, Tokens()), register(client, tokens, AS_STORED))
    assert "whole numbers from 0 to 49" in error["message"]
    assert "to 60" in error["message"]
    assert "vocabulary" in error["hint"]


def test_a_missing_second_input_is_named(client: Client) -> None:
    vectors = np.ones((120, 64), np.float32)
    error = failure(client, upload(client, Masked()), register(client, vectors, AS_STORED))
    assert "takes (input_ids: Tensor, attention_mask: Tensor)" in error["message"]
    assert "the probe gives array 'x', the only one that can be an input" in error["message"]


def test_images_for_a_network_of_vectors_are_to_be_flattened(client: Client) -> None:
    error = failure(client, upload(client, multilayer()), "builtin:digits")
    assert "takes 64 features" in error["message"]
    assert "flatten them as in training" in error["hint"]
    assert client.analyse(upload(client, flattening()), "builtin:digits")["feature_map"]["p"] == 64


def test_bytes_that_were_not_scaled_are_asked_about_in_the_report(
    client: Client, digits: Digits
) -> None:
    x, y = digits
    stored = (x * 255).round().astype(np.float32)
    content = io.BytesIO(npz(x=stored, y=y))
    spec = {"transform": AS_STORED}
    probe = client.register_probe(content, name=f"p-{uuid.uuid4()}", spec=spec)
    report = client.analyse(upload(client, multilayer()), probe["id"])
    [warning] = [w for w in report["feature_map"]["warnings"] if w.startswith("value_range: ")]
    assert "values from 0 to 255" in warning

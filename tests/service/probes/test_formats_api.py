"""Probes of every format through the running product, up to a report."""

import io
import json
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from support import Stack, multilayer, scripted
from torch import nn

from tests.workers.probes.data import CASES, archives, parquet, text

pytestmark = pytest.mark.xdist_group("stack")


def settled(http: httpx.Client, response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 201, response.text
    for _ in range(600):
        probe: dict[str, Any] = http.get(response.headers["location"]).json()
        if probe["status"] != "validating":
            return probe
        time.sleep(0.05)
    raise AssertionError("the probe is still validating")


def register(http: httpx.Client, files: dict[str, bytes], spec: object = None) -> httpx.Response:
    return http.post(
        "/v1/probes",
        files=[("file", (name, io.BytesIO(content))) for name, content in files.items()],
        data={"name": f"data-{uuid.uuid4().hex}", "spec": json.dumps(spec or {})},
    )


@pytest.mark.parametrize("kind", sorted({case.kind for case in CASES if case.x is not None}))
def test_a_file_of_every_kind_becomes_a_probe(http: httpx.Client, kind: str) -> None:
    case = next(each for each in CASES if each.kind == kind and each.x is not None)
    assert case.x is not None
    spec = {**case.spec, **(case.answer or {})}
    probe = settled(http, register(http, {"probe": case.make()}, spec))
    assert probe["status"] == "ready", probe["error"]
    assert probe["n"] == len(case.x)
    assert sorted(probe["inputs"][0]["shape"]) == sorted(case.x.shape[1:])
    assert case.written.items() <= probe["spec"].items()


def test_a_refused_file_says_what_to_set(http: httpx.Client) -> None:
    case = next(case for case in text.CASES if case.name == "text that is no feature")
    probe = settled(http, register(http, {"table.csv": case.make()}, case.spec))
    assert probe["status"] == "failed"
    assert case.refused in probe["error"]["message"]
    assert case.hint in probe["error"]["hint"]


def test_arrays_in_several_files_are_one_probe(http: httpx.Client) -> None:
    x = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    files = {"x.npy": archives.npy(x), "y.npy": archives.npy(np.arange(30) % 3)}
    probe = settled(http, register(http, files))
    assert (probe["status"], probe["n"], probe["classes"]) == ("ready", 30, 3)
    assert probe["spec"]["format"] == "npz"
    again = settled(http, register(http, dict(reversed(files.items()))))
    assert again["sha256"] == probe["sha256"]


def test_the_client_sends_several_files(stack: Stack, http: httpx.Client, tmp_path: Path) -> None:
    for name, content in archives.SHARDS.items():
        (tmp_path / name).write_bytes(content)
    with stack.client() as client:
        probe = client.register_probe(sorted(tmp_path.iterdir()), name=f"p-{uuid.uuid4().hex}")
    response = http.get(f"/v1/probes/{probe['id']}")
    while response.json()["status"] == "validating":
        time.sleep(0.05)
        response = http.get(f"/v1/probes/{probe['id']}")
    assert (response.json()["n"], response.json()["status"]) == (12, "ready")


def test_files_of_one_name_are_refused(http: httpx.Client) -> None:
    content = [("file", ("x.npy", io.BytesIO(b"x"))), ("file", ("x.npy", io.BytesIO(b"y")))]
    response = http.post("/v1/probes", files=content, data={"name": "twice"})
    assert response.status_code == 422
    assert "Two files are named 'x.npy'" in response.json()["detail"]


def test_a_model_is_one_file(http: httpx.Client) -> None:
    content = [("file", ("a.pt", io.BytesIO(b"x"))), ("file", ("b.pt", io.BytesIO(b"y")))]
    response = http.post("/v1/models", files=content, data={"name": "two"})
    assert response.status_code == 400
    assert "Maximum number of files is 1" in response.json()["detail"]


class Small(nn.Module):
    """A network for the pictures of the tests."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.convolution = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.convolution(x)).mean((2, 3)))


def _pictures() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    return random.integers(0, 256, (60, 6, 7, 3), dtype=np.uint8), np.arange(60) % 3


def _folder(pictures: np.ndarray, labels: np.ndarray) -> bytes:
    return archives.zipped(
        {
            f"{parquet.NAMES[label]}/{row:03}.png": parquet.encoded(image)
            for row, (image, label) in enumerate(zip(pictures, labels, strict=True))
        }
    )


def _parquet(pictures: np.ndarray, labels: np.ndarray) -> bytes:
    return parquet.columns(image=[parquet.encoded(image) for image in pictures], label=labels)


@pytest.mark.parametrize("pack", [_folder, _parquet])
def test_a_model_of_pictures_is_judged_as_torch_runs_it(stack: Stack, pack: Any) -> None:
    pictures, labels = _pictures()
    model = Small().eval()
    with torch.inference_mode():
        outputs = model(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255)
    expected = float((outputs.argmax(1).numpy() == labels).mean())
    spec = {"transform": {"layout": "NHWC->NCHW", "dtype": "float32", "scale": "1/255"}}
    with stack.client() as client:
        probe = client.register_probe(
            io.BytesIO(pack(pictures, labels)), name=f"p-{uuid.uuid4().hex}", spec=spec
        )
        sent = client.upload_model(io.BytesIO(scripted(model)), name="small")
        report = client.analyse(sent["id"], probe["id"])
    assert report["performance"]["accuracy"] == pytest.approx(expected)
    assert report["probe"]["n"] == 60


def test_a_table_is_judged_as_torch_runs_it(stack: Stack) -> None:
    random = np.random.default_rng(6)
    values, labels = random.normal(size=(80, 64)), np.arange(80) % 10
    names = [f"x{place}" for place in range(64)]
    lines = [",".join([*names, "label"])]
    lines += [
        ",".join([*map(repr, row), f"class {label}"])
        for row, label in zip(values.tolist(), labels, strict=True)
    ]
    model = multilayer().eval()
    with torch.inference_mode():
        outputs = model(torch.from_numpy(values).float())
    expected = float((outputs.argmax(1).numpy() == labels).mean())
    with stack.client() as client:
        probe = client.register_probe(
            io.BytesIO("\n".join(lines).encode()), name=f"p-{uuid.uuid4().hex}"
        )
        sent = client.upload_model(io.BytesIO(scripted(model)), name="table")
        report = client.analyse(sent["id"], probe["id"])
    assert report["performance"]["accuracy"] == pytest.approx(expected)

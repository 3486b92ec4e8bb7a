import io
import json
import time
import uuid

import httpx
import numpy as np
import pytest
import safetensors.numpy
import torch
from support import MINUTES, Digits, Slow, Stack, multilayer, npz, scripted
from torch import nn

from service.client import AnalysisFailedError, ApiError, Client
from service.report.document import Report

pytestmark = pytest.mark.xdist_group("stack")

AS_STORED = {"transform": {}}


class Headless(nn.Module):
    """Ends in no linear layer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x) * x


def train(model: nn.Sequential, digits: Digits, layers: nn.Module) -> None:
    """Fit the digits, changing only the given layers."""
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(layers.parameters(), lr=3e-3)
    inputs, labels = (torch.from_numpy(array) for array in digits)
    for _ in range(60):
        for rows in torch.randperm(len(inputs)).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[rows]), labels[rows]).backward()
            optimizer.step()


@pytest.fixture(scope="module")
def probe(stack: Stack, digits: Digits) -> str:
    x, y = digits
    with stack.client() as client:
        content = io.BytesIO(npz(x=x, y=y))
        name = f"digits-{uuid.uuid4().hex}"
        return str(client.register_probe(content, name=name, spec=AS_STORED)["id"])


@pytest.fixture(scope="module")
def trained(digits: Digits) -> nn.Sequential:
    model = multilayer(width=128)
    train(model, digits, model)
    return model.eval()


def send(client: Client, model: nn.Module | bytes) -> str:
    content = model if isinstance(model, bytes) else scripted(model)
    return str(client.upload_model(io.BytesIO(content), name=f"m-{uuid.uuid4()}")["id"])


def send_probe(client: Client, spec: object = None, **arrays: np.ndarray) -> str:
    registered = client.register_probe(
        io.BytesIO(npz(**arrays)), name=f"p-{uuid.uuid4().hex}", spec=spec or AS_STORED
    )
    return str(registered["id"])


# -- the main job ----------------------------------------------------------------------------


def test_a_trained_network_is_minimal_and_a_lazy_one_is_not(
    client: Client, probe: str, digits: Digits, trained: nn.Sequential
) -> None:
    minimal = client.analyse(send(client, trained), probe)
    assert minimal["verdict"]["regime"] == "MF"
    assert minimal["performance"]["accuracy"] > 0.99
    lazy_network = multilayer(width=128)
    train(lazy_network, digits, lazy_network[-1])
    lazy = client.analyse(send(client, lazy_network), probe)
    assert lazy["verdict"]["regime"] == "EF"
    assert lazy["verdict"]["minimality"]["energy"] < minimal["verdict"]["minimality"]["energy"]


def test_figures_are_those_of_a_plain_svd(
    client: Client, probe: str, digits: Digits, trained: nn.Sequential
) -> None:
    report = client.analyse(send(client, trained), probe)
    x, y = digits
    n, leading = len(x), slice(0, 20)
    with torch.inference_mode():
        phi = trained[:-1](torch.from_numpy(x)).double().numpy()
        f = trained(torch.from_numpy(x)).double().numpy()
    u, s, _ = np.linalg.svd(phi / np.sqrt(n), full_matrices=False)
    np.testing.assert_allclose(report["spectrum"]["eigenvalues"][leading], s[leading] ** 2, 1e-6)
    targets = np.eye(10)[y]
    targets /= np.linalg.norm(targets, axis=0)
    basis, sizes, _ = np.linalg.svd(f, full_matrices=False)
    learned = basis[:, sizes > 1e-6 * sizes[0]]
    projections = report["projections"]
    for name, space in (("quality", targets), ("utilization", learned)):
        expected = ((space.T @ u[:, leading]) ** 2).sum(0)
        np.testing.assert_allclose(projections[name][leading], expected, atol=1e-5)
    assert projections["dim_target"] == 10
    assert projections["dim_learned"] == learned.shape[1]


def test_the_report_says_what_it_is_about(client: Client, http: httpx.Client) -> None:
    content = io.BytesIO(scripted(multilayer(width=32)))
    model = client.upload_model(content, name="named", run="r-1", step=12)
    flat = client.register_probe(
        io.BytesIO(npz(x=np.random.default_rng(1).random((150, 64)), y=np.arange(150) % 10)),
        name=f"named-{uuid.uuid4().hex}",
        spec={"transform": {"dtype": "float32"}},
    )
    analysis = client.wait(client.start(model["id"], flat["id"], {"seed": 3})["id"])
    assert analysis["status"] == "succeeded", analysis["error"]
    report = client.report(analysis["id"])
    assert report["model"] == {
        "id": model["id"],
        "name": "named",
        "sha256": model["sha256"],
        "run": "r-1",
        "step": 12,
        "parameters": 64 * 32 + 32 + 32 * 10 + 10,
    }
    assert report["probe"]["sha256"] == flat["sha256"]
    assert (report["feature_map"]["p"], report["feature_map"]["outputs"]) == (32, 10)
    assert report["feature_map"]["location"] == "2.weight"
    assert report["feature_map"]["consistency_residual"] < 1e-5
    assert report["provenance"]["seed"] == 3
    assert analysis["regime"] == report["verdict"]["regime"]
    schema = http.get("/v1/schemas/report").json()
    assert set(schema["properties"]) == set(report)
    Report.model_validate(report, strict=False)


def test_every_layer_can_be_asked_for(client: Client, probe: str, digits: Digits) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )
    model = send(client, network)
    report = client.analyse(model, probe, {"layers": "all", "batch_size": 100})
    assert [(layer["name"], layer["p"]) for layer in report["layers"]] == [("1", 8), ("4", 16)]
    assert report["feature_map"]["warnings"] == []
    first, last = report["layers"]
    with torch.inference_mode():
        maps = network[:4](torch.from_numpy(digits[0])).double()
    singular = torch.linalg.svdvals(maps.mean([2, 3])) / len(maps) ** 0.5
    np.testing.assert_allclose(first["eigenvalues"], singular**2, rtol=1e-5)
    assert first["d_lr"] > 0
    assert last["rank"] == report["spectrum"]["rank"]
    np.testing.assert_allclose(
        last["eigenvalues"],
        report["spectrum"]["eigenvalues"],
        atol=1e-10 * report["spectrum"]["eigenvalues"][0],
    )
    assert last["d_lr"] == pytest.approx(report["alignment"]["d_lr"], abs=1e-10)
    centered = report["projections"]["centered"]["cumulative_quality"]
    np.testing.assert_allclose(last["centered"]["cumulative_quality"], centered, atol=1e-10)
    assert client.analyse(model, probe)["layers"] is None


def test_a_report_is_immutable_and_says_so(client: Client, http: httpx.Client) -> None:
    analysis = client.wait(client.start(send(client, multilayer()), "builtin:digits")["id"])
    # The network takes vectors and the built-in probe holds images, so this one fails …
    assert analysis["status"] == "failed"
    refused = http.get(f"/v1/analyses/{analysis['id']}/report")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_ready")
    assert analysis["error"]["message"] in refused.json()["detail"]
    # … and one that flattens them succeeds.
    flattening = nn.Sequential(nn.Flatten(), *multilayer())
    analysis = client.wait(client.start(send(client, flattening), "builtin:digits")["id"])
    address = f"/v1/analyses/{analysis['id']}/report"
    first = http.get(address)
    again = http.get(address, headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
    assert first.status_code == 200
    assert (again.status_code, again.content) == (304, b"")
    assert "immutable" in first.headers["cache-control"]


def test_artifacts_hold_what_the_guide_says(
    client: Client, http: httpx.Client, probe: str, digits: Digits, trained: nn.Sequential
) -> None:
    analysis = client.wait(client.start(send(client, trained), probe, {"top_k": 12})["id"])
    listed = http.get(f"/v1/analyses/{analysis['id']}/artifacts").json()["items"]
    contents = {item["name"]: http.get(item["href"]).content for item in listed}
    assert set(contents) == {"eigenfunctions.safetensors", "moments.safetensors", "spectrum.csv"}
    assert all(len(contents[item["name"]]) == item["size_bytes"] for item in listed)
    eigen = safetensors.numpy.load(contents["eigenfunctions.safetensors"])
    assert eigen["values"].shape == (len(digits[0]), 12)
    np.testing.assert_array_equal(eigen["rows"], np.arange(len(digits[0])))
    assert eigen["positions"].dtype == eigen["rows"].dtype == np.int64
    assert not eigen["positions"].any()
    gram = eigen["values"].T @ eigen["values"] / len(digits[0])
    np.testing.assert_allclose(gram, np.eye(12), atol=1e-5)
    moments = safetensors.numpy.load(contents["moments.safetensors"])
    assert moments["n"] == len(digits[0])
    rows = contents["spectrum.csv"].decode().splitlines()
    report = client.report(analysis["id"])
    assert rows[0].startswith("k,eigenvalue,relative,quality,utilization")
    assert len(rows) - 1 == report["spectrum"]["rank"]
    assert http.get(f"/v1/analyses/{analysis['id']}/artifacts/nothing").status_code == 404


def test_an_artifact_that_is_gone_from_the_store_is_said_to_be(
    client: Client, http: httpx.Client, stack: Stack, probe: str
) -> None:
    model = send(client, multilayer(seed=815))
    analysis = client.wait(client.start(model, probe)["id"])
    listed = http.get(f"/v1/analyses/{analysis['id']}/artifacts").json()["items"]
    (item,) = (each for each in listed if each["name"] == "spectrum.csv")
    (path,) = stack.data_dir.rglob(item["sha256"])
    path.unlink()
    refused = http.get(item["href"])
    assert (refused.status_code, refused.json()["code"]) == (500, "stored_file_damaged")
    assert "comes back with a new analysis" in refused.json()["detail"]


def test_the_same_request_again_is_answered_with_the_same_analysis(
    client: Client, http: httpx.Client, probe: str, trained: nn.Sequential
) -> None:
    model = send(client, trained)
    first = client.wait(client.start(model, probe)["id"])
    again = http.post("/v1/analyses", json={"model": model, "probe": probe})
    assert (again.status_code, again.json()) == (202, first)
    other = http.post("/v1/analyses", json={"model": model, "probe": probe, "options": {"seed": 1}})
    assert (other.status_code, other.json()["id"] == first["id"]) == (202, False)
    assert other.headers["retry-after"] == "1"
    assert other.headers["location"] == f"/v1/analyses/{other.json()['id']}"


def test_a_subset_of_the_samples_can_be_asked_for(
    client: Client, probe: str, trained: nn.Sequential
) -> None:
    report = client.analyse(send(client, trained), probe, {"max_samples": 600, "batch_size": 37})
    assert report["probe"]["n"] == sum(report["probe"]["class_counts"]) == 600


def test_a_probe_without_targets_gives_what_needs_none(client: Client, digits: Digits) -> None:
    unlabelled = send_probe(client, x=digits[0])
    report = client.analyse(send(client, multilayer()), unlabelled)
    assert report["probe"]["task"] is None
    assert report["projections"]["quality"] is None
    nothing = dict.fromkeys(
        (
            "accuracy", "loss", "loss_kind", "subset_accuracy", "average_precision",
            "confidence_interval",
        )
    )  # fmt: skip
    assert report["performance"] == nothing
    assert report["verdict"]["regime"] == "EF"


# -- following and stopping ------------------------------------------------------------------


def test_events_tell_of_progress_and_of_the_end(
    http: httpx.Client, client: Client, probe: str
) -> None:
    analysis = client.start(send(client, multilayer(seed=4)), probe)
    names, stages = [], []
    with http.stream("GET", f"/v1/analyses/{analysis['id']}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            if line.startswith("event:"):
                names.append(line.removeprefix("event:").strip())
            if line.startswith("data:"):
                stages.append(json.loads(line.removeprefix("data:"))["progress"]["stage"])
    assert names[-1] == "succeeded"
    assert set(names[:-1]) == {"progress"}
    assert stages[0] in {"queued", "starting"}
    assert stages[-1] == "finished"
    missing = http.get(f"/v1/analyses/{uuid.uuid4()}/events")
    assert missing.status_code == 404


def test_waiting_ends_when_its_time_is_up(client: Client, http: httpx.Client, probe: str) -> None:
    analysis = client.start(send(client, Slow(MINUTES)), probe)
    began = time.monotonic()
    waited = http.get(f"/v1/analyses/{analysis['id']}", params={"wait": 1.5})
    assert waited.json()["status"] in {"queued", "running"}
    assert time.monotonic() - began >= 1.5
    assert http.get(f"/v1/analyses/{analysis['id']}?wait=61").status_code == 422
    http.post(f"/v1/analyses/{analysis['id']}/cancel")


def test_a_running_analysis_is_cancelled(
    client: Client, http: httpx.Client, probe: str, archive: bytes
) -> None:
    slow = send(client, Slow(MINUTES))
    analysis = client.start(slow, probe)
    for state in client.follow(analysis["id"]):
        if state["progress"]["stage"] == "locating_head":
            break
    in_use = http.delete(f"/v1/models/{slow}")
    assert (in_use.status_code, in_use.json()["code"]) == (409, "in_use")
    assert analysis["id"] in in_use.json()["detail"]
    cancelled = http.post(f"/v1/analyses/{analysis['id']}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    # The worker's only slot is free again: the next analysis is done soon.
    assert client.wait(client.start(send(client, archive), probe)["id"])["status"] == "succeeded"
    assert client.get(f"/v1/analyses/{analysis['id']}")["status"] == "cancelled"
    assert http.delete(f"/v1/models/{slow}").status_code == 204
    again = http.post(f"/v1/analyses/{analysis['id']}/cancel")
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")


def test_an_idempotency_key_makes_one_analysis(
    client: Client, http: httpx.Client, probe: str, archive: bytes
) -> None:
    body = {"model": send(client, archive), "probe": probe}
    key = {"Idempotency-Key": str(uuid.uuid4())}
    one, two = (http.post("/v1/analyses", json=body, headers=key).json() for _ in range(2))
    assert one["id"] == two["id"]
    other = http.post("/v1/analyses", json=body | {"priority": "high"}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")
    bad = http.post("/v1/analyses", json=body, headers={"Idempotency-Key": "a b"})
    assert bad.status_code == 422


# -- what cannot be analysed -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"options": {"colour": 1}}, "body.options.colour"),
        ({"options": {"batch_size": 0}}, "body.options.batch_size"),
        ({"priority": "urgent"}, "body.priority"),
        ({"model": "m"}, "body.model"),
        ({"webhook_url": "http://example.com"}, "body.webhook_url"),
    ],
)
def test_a_wrong_request_is_refused_and_its_key_named(
    http: httpx.Client, body: dict[str, object], where: str
) -> None:
    request = {"model": str(uuid.uuid4()), "probe": "builtin:digits"} | body
    response = http.post("/v1/analyses", json=request)
    assert response.status_code == 422
    assert any(error["location"].startswith(where) for error in response.json()["errors"])


def test_a_body_that_is_no_json_is_refused(http: httpx.Client) -> None:
    response = http.post("/v1/analyses", content=b"{", headers={"Content-Type": "application/json"})
    assert response.status_code == 422


def test_unknown_model_and_probe_are_not_found(client: Client, archive: bytes) -> None:
    with pytest.raises(ApiError, match="There is no model") as unknown:
        client.start(str(uuid.uuid4()), "builtin:digits")
    assert unknown.value.status == 404
    with pytest.raises(ApiError, match="There is no probe 'nobody'"):
        client.start(send(client, archive), "nobody")


def failure(client: Client, model: nn.Module, probe: str) -> dict[str, object]:
    with pytest.raises(AnalysisFailedError) as failed:
        client.analyse(send(client, model), probe)
    error = failed.value.analysis["error"]
    assert error["message"]
    return dict(error)


def test_a_model_without_a_linear_head_fails_with_what_was_seen(client: Client, probe: str) -> None:
    error = failure(client, Headless(), probe)
    assert error["code"] == "head_not_found"
    assert "mul" in str(error["message"])


def test_inputs_of_the_wrong_shape_fail_with_both_shapes(client: Client) -> None:
    narrow = send_probe(client, x=np.ones((50, 63), np.float32), y=np.arange(50) % 10)
    error = failure(client, multilayer(), narrow)
    assert error["code"] == "input_mismatch"
    assert "63" in str(error["message"])


def test_more_classes_than_outputs_fail(client: Client, digits: Digits) -> None:
    x, y = digits
    error = failure(client, multilayer(), send_probe(client, x=x, y=y + 5))
    assert error["code"] == "input_mismatch"
    assert "15" in str(error["message"])
    assert "10" in str(error["message"])


def test_three_samples_fail(client: Client, digits: Digits) -> None:
    x, y = digits
    error = failure(client, multilayer(), send_probe(client, x=x[:3], y=y[:3]))
    assert error["code"] == "too_few_samples"
    assert "3 samples" in str(error["message"])


def test_a_probe_that_failed_validation_cannot_be_used(
    client: Client, http: httpx.Client, archive: bytes, digits: Digits
) -> None:
    x, y = digits
    bad = send_probe(client, x=x, y=y[:-1])
    model = send(client, archive)
    response = http.post("/v1/analyses", json={"model": model, "probe": bad})
    if response.status_code == 202:  # asked before the worker had looked at the probe
        analysis = client.wait(response.json()["id"])
        assert analysis["error"]["code"] == "probe_unreadable"
        response = http.post("/v1/analyses", json={"model": model, "probe": bad})
    assert response.status_code == 422
    assert "1,796" in response.json()["detail"]


def test_analyses_are_listed_and_filtered(client: Client, probe: str, archive: bytes) -> None:
    model = send(client, archive)
    done = client.wait(client.start(model, probe)["id"])
    found = client.get(f"/v1/analyses?model={model}&probe={probe}&status=succeeded")["items"]
    assert [item["id"] for item in found] == [done["id"]]
    assert client.get(f"/v1/analyses?model={model}&regime=MF")["items"] == []

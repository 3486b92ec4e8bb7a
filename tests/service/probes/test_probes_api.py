import io
import json
import pickle
import time
import uuid
from pathlib import Path

import httpx
import numpy as np
import pytest
import safetensors.numpy
from support import npz, running_stack

pytestmark = pytest.mark.xdist_group("stack")

X = np.random.default_rng(0).random((40, 6)).astype(np.float32)
Y = np.arange(40) % 4


def unique() -> str:
    return f"probe-{uuid.uuid4().hex}"


def register(
    http: httpx.Client, content: bytes, name: str | None = None, spec: object = None
) -> httpx.Response:
    fields = {"name": name or unique()}
    if spec is not None:
        fields["spec"] = json.dumps(spec)
    return http.post("/v1/probes", files={"file": content}, data=fields)


def settled(http: httpx.Client, probe: httpx.Response) -> dict[str, object]:
    assert probe.status_code == 201, probe.text
    address = probe.headers["location"]
    for _ in range(600):
        current: dict[str, object] = http.get(address).json()
        if current["status"] != "validating":
            return current
        time.sleep(0.05)
    raise AssertionError("the probe is still validating")


def test_a_probe_is_validated_and_what_was_inferred_is_written_back(http: httpx.Client) -> None:
    images = np.zeros((12, 5, 5, 3), np.uint8)
    response = register(http, npz(x=images, y=np.arange(12) % 3))
    assert response.json()["status"] == "validating"
    probe = settled(http, response)
    assert probe["status"] == "ready"
    assert (probe["n"], probe["classes"], probe["class_counts"]) == (12, 3, [4, 4, 4])
    assert probe["input_shape"] == [5, 5, 3]
    assert probe["inputs"] == [{"name": "x", "shape": [5, 5, 3], "dtype": "uint8"}]
    assert probe["spec"] == {
        "format": "npz",
        "input": "x",
        "target": "y",
        "task": "classification",
    }


def test_every_input_of_a_probe_is_shown(http: httpx.Client) -> None:
    ids = np.arange(40, dtype=np.int32).reshape(8, 5)
    pixels = np.arange(8 * 6).reshape(8, 2, 3) % 3
    response = register(http, npz(input_ids=ids, attention_mask=ids > 3, labels=pixels))
    assert response.json()["inputs"] is None
    probe = settled(http, response)
    assert probe["status"] == "ready"
    assert probe["input_shape"] == [5]
    assert probe["inputs"] == [
        {"name": "input_ids", "shape": [5], "dtype": "int32"},
        {"name": "attention_mask", "shape": [5], "dtype": "bool"},
    ]
    assert (probe["n"], probe["classes"], probe["class_counts"]) == (8, 3, [16, 16, 16])
    assert probe["spec"] == {"format": "npz", "target": "labels", "task": "classification"}
    listed = http.get("/v1/probes", params={"name": probe["name"]}).json()["items"]
    assert [item["inputs"] for item in listed] == [probe["inputs"]]


def test_safetensors_are_read_too(http: httpx.Client) -> None:
    content = safetensors.numpy.save({"x": X, "y": Y})
    probe = settled(http, register(http, content, spec={"transform": {"scale": 2.0}}))
    assert probe["status"] == "ready"
    assert probe["spec"]["format"] == "safetensors"  # type: ignore[index]  # JSON


def test_the_built_in_probe_exists_and_stays(http: httpx.Client) -> None:
    probe = http.get("/v1/probes/builtin:digits").json()
    assert (probe["n"], probe["classes"], probe["status"]) == (1797, 10, "ready")
    assert http.delete("/v1/probes/builtin:digits").status_code == 409


def test_a_second_registration_is_the_next_version(http: httpx.Client) -> None:
    name = unique()
    one, two = (register(http, npz(x=X, y=Y), name).json() for _ in range(2))
    assert (one["version"], two["version"]) == (1, 2)
    assert http.get(f"/v1/probes/{name}").json()["id"] == two["id"]
    assert http.get(f"/v1/probes/{name}@1").json()["id"] == one["id"]
    assert http.get(f"/v1/probes/{one['id']}").json()["id"] == one["id"]
    assert http.delete(f"/v1/probes/{name}@2").status_code == 204
    assert http.get(f"/v1/probes/{name}").json()["id"] == one["id"]
    # A number is never given twice.
    assert register(http, npz(x=X, y=Y), name).json()["version"] == 3


@pytest.mark.parametrize("reference", ["nobody", "nobody@1", "builtin:digits@99", "a@b", "a@²"])
def test_what_is_not_there_is_not_found(http: httpx.Client, reference: str) -> None:
    assert http.get(f"/v1/probes/{reference}").status_code == 404


def _nan() -> np.ndarray:
    x = X.copy()
    x[7, 2] = np.nan
    return x


def _objects() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"hello", "probe_unreadable", "text file"),
        (pickle.dumps([1, 2]), "probe_unreadable", "pickle"),
        (_objects(), "probe_unreadable", "object"),
        (npz(x=X, y=Y[:39]), "probe_unreadable", "39"),
        (npz(x=X, y=Y - 1), "probe_unreadable", "-1"),
        (npz(x=X, y=np.full((40, 2), [3, -100])), "probe_unreadable", "position to ignore"),
        (npz(x=_nan(), y=Y), "non_finite", "7"),
        (npz(x=X[:0], y=Y[:0]), "too_few_samples", "0"),
    ],
)
def test_a_bad_probe_fails_with_its_reason(
    http: httpx.Client, content: bytes, code: str, words: str
) -> None:
    probe = settled(http, register(http, content))
    assert probe["status"] == "failed"
    error = probe["error"]
    assert isinstance(error, dict)
    assert error["code"] == code
    assert words in error["message"]


def test_an_empty_file_is_refused_at_once(http: httpx.Client) -> None:
    response = register(http, b"")
    assert response.status_code == 422
    assert "0 bytes" in response.json()["detail"]


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ({"format": "hdf5"}, "spec.format"),
        ({"transform": {"layout": "NHWC->NCXX"}}, "spec.transform.layout"),
        ({"transform": {"std": [0.0]}}, "spec.transform.std.0"),
        ({"input": ["x"], "transform": [{"scale": "much"}]}, "spec.transform.0.scale"),
        ({"input": ["x", ""]}, "spec.input.1"),
        ({"input": ["x", "x"]}, "spec"),
        ({"colour": 1}, "spec.colour"),
    ],
)
def test_a_wrong_spec_is_refused_and_its_key_named(
    http: httpx.Client, spec: object, where: str
) -> None:
    response = register(http, npz(x=X, y=Y), spec=spec)
    assert response.status_code == 422
    assert where in [error["location"] for error in response.json()["errors"]]


@pytest.mark.parametrize(
    "name", ["", "two words", "builtin:mine", "a@1", "01a20b2f-56a1-714a-bb58-b1682dc49a55"]
)
def test_a_wrong_name_is_refused(http: httpx.Client, name: str) -> None:
    response = http.post("/v1/probes", files={"file": npz(x=X, y=Y)}, data={"name": name})
    assert response.status_code == 422


def test_an_address_is_refused_unless_the_operator_allowed_it(http: httpx.Client) -> None:
    response = http.post("/v1/probes", json={"name": unique(), "uri": "file:///etc/passwd"})
    assert response.status_code == 422
    assert "PHISCOPE_PROBE_URIS" in response.json()["detail"]


def test_a_probe_is_fetched_from_an_allowed_address(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "probe.npz").write_bytes(npz(x=X, y=Y))
    with (
        running_stack(tmp_path / "data", PHISCOPE_PROBE_URIS=f"file://{shared}/") as stack,
        stack.http() as http,
    ):
        body = {"name": "by-address", "uri": f"file://{shared}/probe.npz"}
        probe = settled(http, http.post("/v1/probes", json=body))
        assert (probe["status"], probe["n"]) == ("ready", 40)
        missing = {"name": "missing", "uri": f"file://{shared}/nothing.npz"}
        probe = settled(http, http.post("/v1/probes", json=missing))
        assert probe["error"]["code"] == "probe_unreadable"  # type: ignore[index]  # JSON
        outside = {"name": "outside", "uri": f"file://{shared}/../secret"}
        assert http.post("/v1/probes", json=outside).status_code == 422

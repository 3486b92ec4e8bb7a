"""Classes that count alike, and fewer samples than features, through the running product."""

import io
import time
import uuid

import httpx
import numpy as np
import pytest
import safetensors.numpy
from support import multilayer, npz, scripted

from service.client import ApiError, Client

pytestmark = pytest.mark.xdist_group("stack")


def test_balanced_classes_of_few_samples(
    client: Client, http: httpx.Client, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    images, labels = digits
    rare = np.flatnonzero(labels == 3)[:5]
    kept = np.sort(np.concatenate([np.flatnonzero(labels == 0)[:60], rare]))
    probe = client.register_probe(
        io.BytesIO(npz(x=images[kept], y=labels[kept])), name=f"rare-{uuid.uuid4()}"
    )
    model = client.upload_model(io.BytesIO(scripted(multilayer(128))), name="wide")
    started = client.start(model["id"], probe["id"], {"class_weighting": "balanced"})
    client.wait(started["id"])
    report = client.report(started["id"])
    assert report["provenance"]["solver"]["method"] == "dual"
    assert report["feature_map"]["p"] == 128
    assert report["probe"]["class_counts"] == [60, 0, 0, 5]
    warnings = " ".join(report["verdict"]["warnings"])
    assert "Samples were weighted so that all classes count alike" in warnings
    content = http.get(f"/v1/analyses/{started['id']}/artifacts/moments.safetensors").content
    moments = safetensors.numpy.load(content)
    assert moments["basis"].shape == (128, 65)
    np.testing.assert_allclose(moments["y"], [32.5, 0, 0, 32.5])


def test_there_is_nothing_to_balance_without_classes(
    client: Client, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    probe = client.register_probe(io.BytesIO(npz(x=digits[0])), name=f"bare-{uuid.uuid4()}")
    model = client.upload_model(io.BytesIO(scripted(multilayer())), name="unlabelled")
    client.analyse(model["id"], probe["id"])
    with pytest.raises(ApiError, match=r"needs class labels, and probe bare-.* has none"):
        client.start(model["id"], probe["id"], {"class_weighting": "balanced"})


@pytest.mark.parametrize("form", ["from 1", "text", "several labels", "floats"])
def test_classes_that_only_the_model_tells_are_balanced(
    client: Client, digits: tuple[np.ndarray, np.ndarray], form: str
) -> None:
    images, labels = digits
    kept = (labels < 5) | (np.arange(len(labels)) % 9 == 0)
    images, labels = images[kept], labels[kept]
    stored = {
        "from 1": labels + 1,
        "text": np.array([*"abcdefghij"])[labels],
        "several labels": np.eye(10)[labels] + np.eye(10)[labels // 2] > 0,
        "floats": labels.astype("f4"),
    }[form]
    probe = client.register_probe(io.BytesIO(npz(x=images, y=stored)), name=f"open-{uuid.uuid4()}")
    model = client.upload_model(io.BytesIO(scripted(multilayer())), name="weighted")
    client.analyse(model["id"], probe["id"])  # the probe is read by then
    assert client.get(f"/v1/probes/{probe['id']}")["status"] == "ready"
    started = client.start(model["id"], probe["id"], {"class_weighting": "balanced"})
    client.wait(started["id"])
    warnings = " ".join(client.report(started["id"])["verdict"]["warnings"])
    assert "Samples were weighted" in warnings


def test_values_are_refused_at_once(client: Client, digits: tuple[np.ndarray, np.ndarray]) -> None:
    values = np.random.default_rng(0).standard_normal(len(digits[0]))
    probe = client.register_probe(
        io.BytesIO(npz(x=digits[0], y=values)), name=f"values-{uuid.uuid4()}"
    )
    model = client.upload_model(io.BytesIO(scripted(multilayer())), name="values")
    while client.get(f"/v1/probes/{probe['id']}")["status"] not in {"ready", "failed"}:
        time.sleep(0.1)
    with pytest.raises(ApiError, match="has values instead"):
        client.start(model["id"], probe["id"], {"class_weighting": "balanced"})

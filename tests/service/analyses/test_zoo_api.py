"""Archives of the zoo through the whole product: uploaded, probed, judged, and compared."""

import io
import uuid
from typing import Any

import numpy as np
import pytest
import torch
from support import npz
from zoo import CASES, Accepted, Case

from service.client import AnalysisFailedError, Client

pytestmark = pytest.mark.xdist_group("stack")

ROWS = 130

ACCEPTED = (
    "resnet-scripted",
    "resnet-exported",
    "vgg-frozen",
    "vit-traced",
    "encoder-exported",
    "masked-scripted",
    "gru-scripted",
    "staticcnn-scripted",
    "einsum-frozen",
    "fcnmean-frozen",
    "segmentation-scripted",
    "float16-traced",
    "handwrittensoftmaxchosen-traced",
    "mapbeside-exported",
    "partswithprobabilities-scripted",
    "steps-traced",
    "sidebyside-scripted",
    "adapted-exported",
)
REFUSED = (
    "ensemble-scripted",
    "twoheadsunchosen-traced",
    "dropping-train_exported",
    "upsampled-exported",
)


def case(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def analyse(client: Client, given: Case) -> dict[str, Any]:
    """Does what an owner of the model would do."""
    inputs = given.batch(ROWS)
    names = [f"input_{k}" for k in range(len(inputs))]
    arrays = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
    spec = {"input": names, "target": None, "transform": [{} for _ in names]}
    probe = client.register_probe(
        io.BytesIO(npz(**arrays)), name=f"zoo-{uuid.uuid4().hex}", spec=spec
    )
    model = client.upload_model(io.BytesIO(given.archive), name=given.name)
    choice = given.expected.choice
    return client.analyse(model["id"], probe["id"], {"feature_map": choice} if choice else {})


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_report_is_that_of_the_models_own_features(client: Client, name: str) -> None:
    given = case(name)
    assert isinstance(given.expected, Accepted)
    report = analyse(client, given)
    truth = given.truth(given.batch(ROWS))
    phi = truth.phi.double().numpy()
    singular = np.linalg.svd(phi / np.sqrt(len(phi)), compute_uv=False)
    leading = slice(0, 5)
    tolerance = 1e-5 if given.expected.precision == "float32" else 5e-2
    np.testing.assert_allclose(
        report["spectrum"]["eigenvalues"][leading], singular[leading] ** 2, rtol=tolerance
    )
    feature_map = report["feature_map"]
    assert feature_map["positions"] == given.expected.positions
    assert (feature_map["kind"], feature_map["link"]) == (given.expected.kind, given.expected.link)
    assert feature_map["weights"]["norm"] == pytest.approx(
        float(torch.linalg.vector_norm(truth.weight.detach().double())), rel=tolerance
    )
    assert report["probe"]["n"] == ROWS


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_arrives_with_both_codes(client: Client, name: str) -> None:
    given = case(name)
    with pytest.raises(AnalysisFailedError) as failed:
        analyse(client, given)
    error = failed.value.analysis["error"]
    expected = given.expected
    assert (error["code"], error["detail"]["code"]) == (expected.code, expected.detail)
    assert any(word in error["message"].lower() for word in expected.says)
    assert error["hint"]

"""Models of several inputs, and of tokens, through the running product."""

import io
import uuid
from typing import Any

import numpy as np
import pytest
import torch
from giving import specs_in
from support import npz, scripted
from torch import Tensor, nn

from service.client import AnalysisFailedError, Client

pytestmark = pytest.mark.xdist_group("stack")

SAMPLES, LENGTH, WORDS, CLASSES = 400, 12, 50, 4


class Tokens(nn.Module):
    """Averages embeddings of tokens, of those that count where a mask says which."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(WORDS, 16)
        self.hidden = nn.Linear(16, 24)
        self.head = nn.Linear(24, CLASSES)

    def features(self, ids: Tensor, mask: Tensor) -> Tensor:
        counted = self.embedding(ids) * mask.unsqueeze(2)
        return torch.relu(self.hidden(counted.sum(1) / mask.sum(1, keepdim=True)))


class Masked(Tokens):
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.head(self.features(input_ids, attention_mask))


class Unmasked(Tokens):
    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.features(ids, torch.ones_like(ids)))


@pytest.fixture(scope="module")
def sentences() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "input_ids": random.integers(0, WORDS, (SAMPLES, LENGTH), dtype=np.int32),
        "attention_mask": np.arange(LENGTH) < random.integers(1, LENGTH + 1, (SAMPLES, 1)),
        "labels": np.arange(SAMPLES) % CLASSES,
    }


def analyse(
    client: Client, model: nn.Module, spec: object = None, **arrays: np.ndarray
) -> dict[str, Any]:
    name = f"tokens-{uuid.uuid4().hex}"
    probe = client.register_probe(io.BytesIO(npz(**arrays)), name=name, spec=spec)
    archive = client.upload_model(io.BytesIO(scripted(model)), name=name)
    return client.analyse(archive["id"], probe["id"])


def spectrum(model: Tokens, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        phi = model.features(torch.from_numpy(ids).long(), torch.from_numpy(mask))
    return np.linalg.svd(phi.double().numpy() / np.sqrt(len(ids)), compute_uv=False) ** 2


def test_a_model_of_tokens_and_mask_gets_both(
    client: Client, sentences: dict[str, np.ndarray]
) -> None:
    model = Masked()
    report = analyse(client, model, **sentences)
    expected = spectrum(model, sentences["input_ids"], sentences["attention_mask"])
    np.testing.assert_allclose(report["spectrum"]["eigenvalues"][:10], expected[:10], 1e-5)
    assert report["feature_map"]["positions"] == 1
    assert report["feature_map"]["location"] == "head.weight"
    assert report["probe"]["class_counts"] == [SAMPLES // CLASSES] * CLASSES
    assert report["probe"]["inputs"] == [
        {
            "argument": "input_ids",
            "array": "input_ids",
            "stored": "int32",
            "dtype": "int64",
            "transform": {"dtype": "int64"},
            "done": "'input_ids' (int32 (400, 12)): as int64, which the model takes.",
        },
        {
            "argument": "attention_mask",
            "array": "attention_mask",
            "stored": "bool",
            "dtype": "bool",
            "transform": {},
            "done": "'attention_mask' (bool (400, 12)): as stored.",
        },
    ]
    (note,) = report["probe"]["notes"]
    assert "(by name): input_ids ← 'input_ids', attention_mask ← 'attention_mask'" in note


def test_the_order_of_inputs_is_that_of_the_spec(
    client: Client, sentences: dict[str, np.ndarray]
) -> None:
    arrays = {
        "first": sentences["attention_mask"],
        "second": sentences["input_ids"],
        "y": sentences["labels"],
    }
    model = Masked()
    spec = {"input": ["second", "first"], "transform": [{"dtype": "int64"}, {"dtype": "float32"}]}
    report = analyse(client, model, spec, **arrays)
    expected = spectrum(model, arrays["second"], arrays["first"])
    np.testing.assert_allclose(report["spectrum"]["eigenvalues"][:10], expected[:10], 1e-5)


def test_tokens_stored_as_int32_reach_the_model(
    client: Client, sentences: dict[str, np.ndarray]
) -> None:
    ids = sentences["input_ids"]
    model = Unmasked()
    report = analyse(client, model, x=ids, y=sentences["labels"])
    expected = spectrum(model, ids, np.ones_like(ids))
    np.testing.assert_allclose(report["spectrum"]["eigenvalues"][:10], expected[:10], 1e-5)


def test_a_model_that_is_given_too_few_inputs_fails_with_what_there_is(
    client: Client, sentences: dict[str, np.ndarray]
) -> None:
    with pytest.raises(AnalysisFailedError) as failed:
        analyse(client, Masked(), x=sentences["input_ids"], y=sentences["labels"])
    error = failed.value.analysis["error"]
    assert error["code"] == "input_mismatch"
    assert "(input_ids: Tensor, attention_mask: Tensor)" in error["message"]
    assert error["detail"]["arrays"] == ["x"]


def test_names_that_do_not_match_are_asked_about(
    client: Client, sentences: dict[str, np.ndarray]
) -> None:
    arrays = {"words": sentences["input_ids"], "kept": sentences["attention_mask"]}
    labels = sentences["labels"]
    with pytest.raises(AnalysisFailedError) as failed:
        analyse(client, Masked(), **arrays, labels=labels)
    error = failed.value.analysis["error"]
    assert error["detail"]["code"] == "ambiguous_input"
    (spec, _) = specs_in(error["hint"])
    assert spec == {"input": {"input_ids": "words", "attention_mask": "kept"}}
    model = Masked()
    report = analyse(client, model, spec, **arrays, labels=labels)
    expected = spectrum(model, arrays["words"], arrays["kept"])
    np.testing.assert_allclose(report["spectrum"]["eigenvalues"][:10], expected[:10], 1e-5)


def test_labels_per_position_need_a_dense_model(
    client: Client, sentences: dict[str, np.ndarray]
) -> None:
    tagged = {**sentences, "labels": sentences["input_ids"] % CLASSES}
    with pytest.raises(AnalysisFailedError) as failed:
        analyse(client, Masked(), **tagged)
    error = failed.value.analysis["error"]
    assert error["code"] == "input_mismatch"
    assert "(400, 12): 1 against 12 a sample" in error["message"]
    assert '"target": null' in error["hint"]

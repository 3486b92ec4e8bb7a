import io
import time
import uuid
import warnings
import zipfile
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from support import MINUTES, Slow, Stack, exported, multilayer, npz, scripted
from torch import Tensor, nn

from service.client import ApiError, Client

pytestmark = pytest.mark.xdist_group("stack")


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.stem(x)).mean((2, 3))).softmax(1)


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(100, 16)
        self.head = nn.Linear(16, 3)

    def forward(self, ids: Tensor, scale: float = 1.0) -> Tensor:
        return self.head(self.table(ids).mean(1)) * scale


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(8, 6)
        self.left = nn.Linear(6, 3)
        self.right = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = torch.relu(self.body(x))
        return {"left": self.left(h), "right": self.right(h)}


class Rectangular(nn.Module):
    """Takes images of 7 × 13 alone, which nothing about it says."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4 * 7 * 13, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.stem(x)).flatten(1))


class Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(5, 3)
        self.right = nn.Linear(7, 3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.left(x) + self.right(y)


def saved(model: nn.Module, how: str, example: Tensor) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if how == "traced":
            archive = torch.jit.trace(model.eval(), example)
        else:
            archive = torch.jit.freeze(torch.jit.script(model.eval()))
        torch.jit.save(archive, buffer)
    return buffer.getvalue()


def send(client: Client, model: nn.Module | bytes) -> str:
    content = model if isinstance(model, bytes) else scripted(model)
    return str(client.upload_model(io.BytesIO(content), name=f"i-{uuid.uuid4()}")["id"])


def look(client: Client, model: nn.Module | bytes, *inputs: str) -> dict[str, Any]:
    """Inspect a model that can be, and return the findings."""
    inspection = client.inspect(send(client, model), inputs)
    assert inspection["status"] == "succeeded", inspection["error"]
    assert inspection["error"] is None
    return dict(inspection["findings"])


def shapes(findings: dict[str, Any]) -> list[tuple[str, list[int], str, str]]:
    return [(i["name"], i["shape"], i["dtype"], i["origin"]) for i in findings["inputs"]]


# -- what is found -----------------------------------------------------------------------------


def test_a_network_shows_its_inputs_outputs_and_layers(client: Client) -> None:
    model = send(client, multilayer(width=32))
    inspection = client.inspect(model)
    assert (inspection["model_id"], inspection["format"]) == (model, "torchscript")
    assert inspection["request"] == {"inputs": None}
    findings = inspection["findings"]
    assert shapes(findings) == [("input", [64], "float32", "guessed")]
    assert findings["parameters"] == 64 * 32 + 32 + 32 * 10 + 10
    assert findings["outputs"] == [
        {
            "label": "",
            "shape": [None, 10],
            "dtype": "float32",
            "head": "2.weight",
            "link": "identity",
        }
    ]
    hidden, head = findings["candidates"]
    assert (hidden["location"], hidden["taken"], hidden["number"]) == ("0.weight", False, 1)
    assert "aten::relu (operation 2 of 3)" in hidden["reason"]
    assert head == {
        "location": "2.weight",
        "operation": "aten::linear",
        "number": 3,
        "kind": "linear",
        "features": 32,
        "outputs": 10,
        "taken": True,
        "reason": "taken: the output is its result.",
    }
    assert (findings["head"], findings["refusal"], findings["warnings"]) == ("2.weight", None, [])
    assert (findings["operations"], findings["candidates_total"]) == (3, 2)


def test_images_and_tokens_are_told_apart(client: Client) -> None:
    images = look(client, Convolutional())
    assert shapes(images) == [("x", [3, 32, 32], "float32", "guessed")]
    assert (images["head"], images["outputs"][0]["link"]) == ("head.weight", "softmax")
    tokens = look(client, Tokens())
    ids, scale = tokens["inputs"]
    assert (ids["shape"], ids["dtype"]) == ([32], "int64")
    assert (scale["default"], scale["shape"], scale["origin"]) == ("1.0", None, None)


@pytest.mark.parametrize(
    ("how", "origin", "location"),
    [
        ("traced", "traced", "head.weight"),
        ("frozen", "declared", "aten::linear (operation 4 of 4)"),
        ("exported", "exported", "head.weight"),
    ],
)
def test_other_archives_are_looked_into_alike(
    client: Client, how: str, origin: str, location: str
) -> None:
    example = torch.rand(2, 3, 7, 13)
    content = (
        exported(Rectangular(), example)
        if how == "exported"
        else saved(Rectangular(), how, example)
    )
    declared = ["3x7x13"] if origin == "declared" else []
    findings = look(client, content, *declared)
    assert shapes(findings) == [("x", [3, 7, 13], "float32", origin)]
    assert findings["head"] == location
    assert findings["parameters"] == sum(p.numel() for p in Rectangular().parameters())


def test_a_model_that_would_be_refused_shows_why_and_what_there_is(client: Client) -> None:
    findings = look(client, TwoHeads())
    assert findings["head"] is None
    assert findings["refusal"]["code"] == "unsupported_model"
    assert findings["refusal"]["detail"]["code"] == "ambiguous_output"
    assert findings["refusal"]["hint"]
    assert [(o["label"], o["head"]) for o in findings["outputs"]] == [
        ("left", "left.weight"),
        ("right", "right.weight"),
    ]
    reasons = {c["location"]: c["reason"] for c in findings["candidates"]}
    for name in ("left", "right"):
        assert f"although the output `{name}` is its result" in reasons[f"{name}.weight"]


def test_made_up_values_are_not_judged_by_their_scale(client: Client) -> None:
    """Its batch norm was trained on values a thousand times as large."""
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), *pooled, nn.Linear(8, 10))
    for _ in range(200):
        model(1000 * torch.randn(16, 3, 20, 20))
    # Exported for as many samples as tell a variance.
    program = torch.export.export(model.eval(), (torch.randn(16, 3, 20, 20),))
    content = io.BytesIO()
    torch.export.save(program, content)
    findings = look(client, content.getvalue())
    assert findings["head"] == "4.weight"
    assert [warning.split(":")[0] for warning in findings["warnings"]] == ["fixed_batch"]


def test_several_inputs_are_found_and_warned_of(client: Client) -> None:
    findings = look(client, Sum())
    assert [shape for _, shape, _, _ in shapes(findings)] == [[5], [7]]
    assert findings["warnings"][0].startswith("several_inputs: ")


# -- declaring inputs --------------------------------------------------------------------------


def test_what_fits_no_guess_fails_until_it_is_declared(client: Client) -> None:
    model = send(client, Rectangular())
    failed = client.inspect(model)
    assert (failed["status"], failed["findings"]) == ("failed", None)
    assert failed["error"]["code"] == "input_mismatch"
    assert "Tried samples of" in failed["error"]["message"]
    assert "input=3x224x224" in failed["error"]["hint"]
    declared = client.inspect(model, ["3x7x13"])
    assert declared["status"] == "succeeded"
    assert declared["request"] == {"inputs": [{"shape": [3, 7, 13], "dtype": "float32"}]}
    assert declared["findings"]["inputs"][0]["origin"] == "declared"


def test_several_inputs_are_declared_in_order(client: Client) -> None:
    model = send(client, Sum())
    assert client.inspect(model, ["5", "7"])["status"] == "succeeded"
    swapped = client.inspect(model, ["7", "5"])
    assert swapped["error"]["code"] == "input_mismatch"
    one = client.inspect(model, ["5"])
    assert "1 inputs were declared; `forward` takes 2 tensors: x, y" in one["error"]["message"]


def test_a_probe_says_what_each_of_several_inputs_looks_like(client: Client) -> None:
    content = npz(a=np.ones((30, 5)), b=np.ones((30, 7), np.float32))
    probe = client.register_probe(
        io.BytesIO(content), name=f"p-{uuid.uuid4().hex}", spec={"input": ["a", "b"]}
    )
    while client.get(f"/v1/probes/{probe['id']}")["status"] == "validating":
        time.sleep(0.05)
    inspection = client.inspect(send(client, Sum()), probe=probe["id"])
    assert inspection["request"]["inputs"] == [
        {"shape": [5], "dtype": "float32"},
        {"shape": [7], "dtype": "float32"},
    ]
    assert inspection["status"] == "succeeded"


def test_a_probe_says_what_the_input_looks_like(client: Client) -> None:
    model = send(client, nn.Sequential(nn.Flatten(), *multilayer()))
    inspection = client.inspect(model, probe="builtin:digits")
    assert inspection["request"] == {"inputs": [{"shape": [1, 8, 8], "dtype": "float32"}]}
    assert inspection["findings"]["head"] == "3.weight"
    with pytest.raises(ApiError, match="There is no probe 'nobody'"):
        client.inspect(model, probe="nobody")
    with pytest.raises(ApiError, match="expected one of them") as both:
        client.inspect(model, ["64"], probe="builtin:digits")
    assert both.value.status == 422


@pytest.mark.parametrize(
    ("query", "where", "words"),
    [
        ({"input": "3x32xa"}, "query.input.0", "3x32x32, 64, 128:int64"),
        ({"input": ["64", ""]}, "query.input.1", "expected the sizes"),
        ({"input": "64:int65"}, "query.input.0", "expected one of the dtypes float32"),
        ({"input": "3x0"}, "query.input.0", "no size of 0"),
        ({"input": "99999x99999"}, "query.input.0", "at most 16777216 values"),
        ({"input": ["1"] * 17}, "query.input", "at most 16 items"),
        ({"wait": "61"}, "query.wait", "at most 60"),
        ({"inputs": "64"}, "query.inputs", "unknown key"),
    ],
)
def test_a_wrong_query_is_refused_with_what_was_expected(
    http: httpx.Client, query: dict[str, Any], where: str, words: str
) -> None:
    response = http.get(f"/v1/models/{uuid.uuid4()}/inspection", params=query)
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["location"] == where
    assert words in error["message"]


# -- the inspection as a resource --------------------------------------------------------------


def test_asking_twice_makes_one_inspection(client: Client) -> None:
    model = send(client, multilayer(seed=21))
    first = client.inspect(model)
    assert client.inspect(model) == first
    assert client.inspect(model, ["64"])["id"] != first["id"]
    assert client.inspect(model, ["64:float32"])["id"] == client.inspect(model, ["64"])["id"]


def test_one_that_is_not_done_is_answered_with_202(client: Client, http: httpx.Client) -> None:
    address = f"/v1/models/{send(client, multilayer(seed=22))}/inspection"
    early = http.get(address, params={"wait": 0})
    assert (early.status_code, early.headers["retry-after"]) == (202, "1")
    assert early.json()["status"] in {"queued", "running"}
    done = http.get(address)
    assert (done.status_code, done.json()["status"]) == (200, "succeeded")
    assert done.json()["id"] == early.json()["id"]
    assert "retry-after" not in done.headers


def test_a_model_that_is_not_there_is_not_found(http: httpx.Client) -> None:
    response = http.get(f"/v1/models/{uuid.uuid4()}/inspection")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_an_archive_that_does_not_load_fails_with_the_reason(
    client: Client, archive: bytes
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as whole, zipfile.ZipFile(buffer, "w") as file:
        for name in whole.namelist():
            # In its right place, and no program.
            content = b"not a program" if name.endswith(".py") else whole.read(name)
            file.writestr(name, content)
    inspection = client.inspect(send(client, buffer.getvalue()))
    assert inspection["status"] == "failed"
    assert inspection["error"]["code"] == "not_a_model"


def test_deleting_a_model_takes_its_inspections_along(
    client: Client, http: httpx.Client, archive: bytes
) -> None:
    done = send(client, archive)
    client.inspect(done)
    under_way = send(client, Slow(MINUTES))
    pending = http.get(f"/v1/models/{under_way}/inspection", params={"wait": 0})
    assert pending.status_code == 202
    for model in (done, under_way):
        assert http.delete(f"/v1/models/{model}").status_code == 204
        assert http.get(f"/v1/models/{model}/inspection").status_code == 404
    # The worker's only slot is free again.
    assert client.inspect(send(client, multilayer(seed=24)))["status"] == "succeeded"


def test_a_probe_that_is_not_validated_yet_cannot_say_anything(stack: Stack) -> None:
    content = npz(x=np.ones((40, 64), np.float32), y=np.arange(40) % 4)
    with stack.client() as client, stack.http() as http:
        model = send(client, multilayer(seed=25))
        # Keeps the only worker busy while the probe waits.
        slow = send(client, Slow(MINUTES))
        http.get(f"/v1/models/{slow}/inspection", params={"wait": 0})
        probe = client.register_probe(io.BytesIO(content), name=f"p-{uuid.uuid4().hex}")
        early = http.get(f"/v1/models/{model}/inspection", params={"probe": probe["id"]})
        assert (early.status_code, early.json()["code"]) == (409, "not_ready")
        assert http.delete(f"/v1/models/{slow}").status_code == 204

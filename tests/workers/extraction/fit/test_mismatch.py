"""A model and a probe that do not fit: the message tells both sides, and what is suggested runs."""

import io
from collections.abc import Callable
from typing import cast

import numpy as np
import pytest
import torch
from mismatched import (
    ChannelsLast,
    Normalising,
    Product,
    Rows,
    Signals,
    Tokens,
    images,
    refused,
    vectors,
)
from support import npz
from torch import Tensor, nn

from service.contract.failures import FailureCode
from service.contract.probe_spec import ProbeSpec
from service.contract.transform import Transform
from workers.extraction import discover
from workers.extraction.fit.mismatch import CorrectableError
from workers.probes.probe import load_probe
from workers.protocol.arguments import ProbeLimits
from workers.protocol.errors import JobError

Archive = Callable[..., torch.jit.ScriptModule]

WAYS = ["scripted", "traced", "frozen"]
BYTE_SCALE = 0.00392156862745098


def transformed(stored: Tensor, transform: object) -> Tensor:
    """What a model is given of a probe that is stored so."""
    content = io.BytesIO(npz(x=stored.numpy(), y=np.arange(len(stored)) % 5))
    spec = ProbeSpec.model_validate({"transform": transform})
    return next(load_probe(content, spec, ProbeLimits()).batches(16))[0][0]


def stored_bytes(*shape: int) -> Tensor:
    return torch.randint(256, shape, dtype=torch.uint8)


MENDED = [
    pytest.param(
        images, (3, 8, 8), torch.rand(20, 8, 8, 3), "3 channels on axis 1 of 4", "was given 8",
        {"layout": "NHWC->NCHW"}, id="channels-last",
    ),
    pytest.param(
        ChannelsLast, (8, 8, 3), torch.rand(20, 3, 8, 8), "3 channels", "was given 8",
        {"layout": "NCHW->NHWC"}, id="channels-first",
    ),
    pytest.param(
        Signals, (6, 9), torch.rand(20, 9, 6), "6 channels on axis 1 of 3", "was given 9",
        {"layout": "NTC->NCT"}, id="sequences",
    ),
    pytest.param(
        vectors, (12,), torch.rand(20, 12).double(), "12 features on its last axis, as float32",
        "(float64)", {"dtype": "float32"}, id="double",
    ),
    pytest.param(
        lambda: vectors(dtype=torch.float64), (12,), torch.rand(20, 12), "as float64", "(float32)",
        {"dtype": "float64"}, id="single",
    ),
    pytest.param(
        lambda: vectors(dtype=torch.float16), (12,), torch.rand(20, 12), "as float16", "(float32)",
        {"dtype": "float16"}, id="half",
    ),
    pytest.param(
        images, (3, 8, 8), stored_bytes(20, 3, 8, 8), "as float32", "(uint8)",
        {"dtype": "float32", "scale": BYTE_SCALE}, id="bytes",
    ),
    pytest.param(
        images, (3, 8, 8), stored_bytes(20, 8, 8, 3), "3 channels on axis 1 of 4, as float32",
        "(uint8)", {"layout": "NHWC->NCHW", "dtype": "float32", "scale": BYTE_SCALE},
        id="bytes-channels-last",
    ),
    pytest.param(
        Normalising, (3, 8, 8), torch.rand(20, 8, 8, 3), "model's own shape [1, 3, 1, 1]",
        "was given shape [16, 8, 8, 3]", {"layout": "NHWC->NCHW"}, id="constant",
    ),
    pytest.param(
        Tokens, (7,), torch.randint(50, (20, 7)).float(), "whole numbers from 0 to 49", "(float32)",
        {"dtype": "int64"}, id="tokens-as-floats",
    ),
    pytest.param(
        Product, (12,), torch.rand(20, 12).double(), "12 features on its last axis, as float32",
        "(float64)", {"dtype": "float32"}, id="product",
    ),
    pytest.param(
        lambda: nn.Sequential(nn.Unflatten(1, (2, 6)), nn.Flatten(), vectors()), (12,),
        torch.rand(20, 12).double(), "as float32", "(float64)", {"dtype": "float32"}, id="views",
    ),
]  # fmt: skip


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(("make", "takes", "given", "expected", "found", "suggestion"), MENDED)
def test_what_is_suggested_runs(
    make: Callable[[], nn.Module],
    takes: tuple[int, ...],
    given: Tensor,
    expected: str,
    *,
    found: str,
    suggestion: dict[str, object],
    how: str,
    archive: Archive,
) -> None:
    net = make()
    dtype = next(net.parameters()).dtype
    is_tokens = isinstance(net, Tokens)
    example = torch.ones(2, *takes, dtype=torch.int64 if is_tokens else dtype)
    model = archive(net, example, how)
    failure = refused(model, given)
    assert expected in failure.message
    assert found in failure.message
    assert failure.detail["suggestion"] == suggestion
    assert "tried: it runs" in (failure.hint or "")
    assert all(f'"{key}"' in (failure.hint or "") for key in suggestion)
    assert discover(model, (transformed(given, suggestion),)).feature_map.outputs == 5


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(
    ("make", "takes", "given", "expected", "shape"),
    [
        (lambda: images(1), (1, 8, 8), torch.rand(20, 8, 8), "1 channel on axis 1", (1, 8, 8)),
        (lambda: images(1), (1, 8, 8), torch.rand(20, 64), "1 channel on axis 1", (1, 8, 8)),
        (images, (3, 8, 8), torch.rand(20, 1, 8, 8), "3 channels on axis 1", (3, 8, 8)),
        (lambda: vectors(64), (64,), torch.rand(20, 1, 8, 8), "64 features", (64,)),
        (lambda: vectors(64), (64,), torch.rand(20, 8, 8), "64 features", (64,)),
        (Rows, (5, 8), torch.rand(20, 1, 8, 8), "8", (8, 8)),
    ],
)
def test_inputs_to_be_stored_otherwise_are_described_and_run(
    make: Callable[[], nn.Module],
    takes: tuple[int, ...],
    given: Tensor,
    expected: str,
    shape: tuple[int, ...],
    *,
    how: str,
    archive: Archive,
) -> None:
    model = archive(make(), torch.rand(2, *takes), how)
    failure = refused(model, given)
    assert expected in failure.message
    assert f"(n, {', '.join(map(str, shape))})" in (failure.hint or "")
    assert "tried: it runs" in (failure.hint or "")
    assert "suggestion" not in failure.detail  # no transform makes these
    stored = given if given.numel() == 20 * np.prod(shape) else given.expand(20, *shape)
    assert discover(model, (stored.reshape(20, *shape),)).feature_map.outputs == 5


@pytest.mark.parametrize(
    ("earlier", "whole"),
    [
        (None, {"layout": "NHWC->NCHW"}),
        (
            {"dtype": "float32", "scale": 0.5},
            {"layout": "NHWC->NCHW", "dtype": "float32", "scale": 0.5},
        ),
    ],
)
def test_a_suggestion_holds_what_the_probes_transform_did(
    earlier: dict[str, object] | None, whole: dict[str, object], archive: Archive
) -> None:
    model = archive(images(), torch.rand(2, 3, 8, 8))
    with pytest.raises(CorrectableError) as caught:
        discover(model, (torch.rand(20, 8, 8, 3),))
    failure = caught.value.after(Transform.model_validate(earlier or {})).failure
    assert failure.detail["suggestion"] == whole
    assert all(f'"{key}": ' in (failure.hint or "") for key in whole)


def test_a_suggestion_that_no_transform_can_hold_stays_as_it_was_tried(archive: Archive) -> None:
    model = archive(Tokens(), torch.ones(2, 7, dtype=torch.int64))
    with pytest.raises(CorrectableError) as caught:
        discover(model, (torch.ones(20, 7),))
    failure = caught.value.after(Transform(dtype="float32", scale=1)).failure
    assert failure.detail["suggestion"] == {"dtype": "int64"}


def test_bytes_to_be_flattened_take_both(archive: Archive) -> None:
    given = stored_bytes(20, 8, 8)
    failure = refused(archive(vectors(64), torch.rand(2, 64)), given)
    assert "(n, 64)" in (failure.hint or "")
    assert f'"transform": {{"dtype": "float32", "scale": {BYTE_SCALE}}}' in (failure.hint or "")


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(
    ("make", "takes", "given", "words"),
    [
        (images, (3, 8, 8), torch.rand(20, 4, 8, 8), ["takes 3 channels", "was given 4"]),
        (vectors, (12,), torch.rand(20, 7), ["takes 12 features", "was given 7"]),
        (Tokens, (7,), torch.full((20, 7), 60), ["from 0 to 49", "values from 60 to 60"]),
        (Tokens, (7,), torch.rand(20, 7), ["from 0 to 49", "(float32)"]),
    ],
)
def test_where_nothing_runs_nothing_is_suggested(
    make: Callable[[], nn.Module],
    takes: tuple[int, ...],
    given: Tensor,
    words: list[str],
    *,
    how: str,
    archive: Archive,
) -> None:
    net = make()
    example = torch.ones(2, *takes, dtype=torch.int64 if isinstance(net, Tokens) else None)
    failure = refused(archive(net, example, how), given)
    assert [word for word in words if word not in failure.message] == []
    assert "None of the usual conversions" in (failure.hint or "")
    assert "suggestion" not in failure.detail
    assert failure.detail["expected"]


def test_images_of_another_size_are_told_from_another_kind(archive: Archive) -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    failure = refused(archive(net, torch.rand(2, 1, 8, 8)), torch.rand(20, 1, 9, 9))
    assert "Its layer 3.weight takes 144 features" in failure.message
    assert "was given 196" in failure.message
    assert "height and width" in (failure.hint or "")
    assert failure.detail["expected"] == {
        "layer": "3.weight",
        "features": 144,
        "axis": -1,
        "dtype": "float32",
    }


def test_a_later_batch_that_is_refused_is_explained_as_well(archive: Archive) -> None:
    extractor = discover(
        archive(Tokens(), torch.ones(2, 7, dtype=torch.int64)), (torch.randint(50, (40, 7)),)
    )
    later = torch.randint(50, (200, 7))
    later[150, 3] = 77
    with pytest.raises(JobError) as caught:
        extractor.run((later,))
    failure = caught.value.failure
    assert failure.code is FailureCode.INPUT_MISMATCH
    assert "takes whole numbers from 0 to 49" in failure.message
    assert "to 77, in shape [16, 7] (int64)" in failure.message
    assert "index out of range" in failure.message


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 5)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.fc(input_ids * attention_mask)


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 5)

    def forward(self, fields: dict[str, Tensor]) -> Tensor:
        return self.fc(fields["x"])


@pytest.mark.parametrize("how", WAYS)
def test_a_second_input_is_named(how: str, archive: Archive) -> None:
    example = cast("Tensor", (torch.rand(2, 12), torch.rand(2, 12)))  # the tracer takes tuples
    failure = refused(archive(Masked(), example, how), torch.rand(20, 12))
    assert "takes 2 inputs (input_ids: Tensor, attention_mask: Tensor)" in failure.message
    assert "gives 1 tensor" in failure.message
    assert failure.detail["expected"] == {"inputs": ["input_ids: Tensor", "attention_mask: Tensor"]}
    assert '"input": ["input_ids", "attention_mask"]' in (failure.hint or "")


def test_an_input_that_is_no_tensor_is_named(archive: Archive) -> None:
    failure = refused(archive(Named(), torch.rand(2, 12)), torch.rand(20, 12))
    assert "takes 1 input (fields: Dict[str, Tensor])" in failure.message


def exported(net: nn.Module, *example: Tensor) -> nn.Module:
    """Send a module through a saved program, as the product would get it."""
    rows = tuple({0: torch.export.Dim.AUTO} for _ in example)
    file = io.BytesIO()
    torch.export.save(torch.export.export(net.eval(), example, dynamic_shapes=rows), file)
    file.seek(0)
    return torch.export.load(file).module()


def test_an_exported_program_declares_its_inputs() -> None:
    model = exported(images(), torch.rand(2, 3, 8, 8))
    failure = refused(model, torch.rand(20, 8, 8, 3))
    assert "of shape [n, 3, 8, 8] (float32)" in failure.message
    assert failure.detail["suggestion"] == {"layout": "NHWC->NCHW"}
    failure = refused(exported(Masked(), torch.rand(2, 12), torch.rand(2, 12)), torch.rand(20, 12))
    assert "takes 2 inputs (input_ids: Tensor, attention_mask: Tensor)" in failure.message

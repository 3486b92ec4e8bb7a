import io
import warnings
from typing import Protocol

import pytest
import torch
from support import scripted
from torch import Tensor, nn
from torch.nn import functional

from service.contract.failures import FailureCode
from workers.extraction import load_model
from workers.extraction.trace.signature import read_arguments, tensor_positions
from workers.inspection.example_inputs import find_example
from workers.inspection.forms import Form
from workers.inspection.recorded import Recorded, read_recorded
from workers.protocol.errors import JobError


class Archive(Protocol):
    def __call__(self, model: nn.Module, example: Tensor, how: str = ...) -> nn.Module: ...


class LeNet(nn.Module):
    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 6, 5)
        self.second = nn.Conv2d(6, 16, 5)
        self.head = nn.Linear(16 * (((side - 4) // 2 - 4) // 2) ** 2, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(torch.relu(self.first(x)), 2)
        x = functional.max_pool2d(torch.relu(self.second(x)), 2)
        return self.head(x.view(x.size(0), -1))


class Standardised(nn.Module):
    """Subtracts a mean per channel, which an image of one channel could be broadcast against."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.5))
        self.stem = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x - self.mean).mean((2, 3)))


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x.permute(0, 3, 1, 2)).mean((2, 3)))


class Patches(nn.Module):
    """A vision transformer without its layers: patches, and a table of their positions."""

    def __init__(self, side: int, checked: bool = False) -> None:
        super().__init__()
        self.side = side
        self.checked = checked
        self.cut = nn.Conv2d(3, 8, 16, 16)
        self.positions = nn.Parameter(torch.zeros(1, (side // 16) ** 2, 8))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        if self.checked:
            assert x.shape[2] == self.side, "wrong height"
        return self.head((self.cut(x).flatten(2).transpose(1, 2) + self.positions).mean(1))


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(100, 16)
        self.head = nn.Linear(16, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.table(ids).mean(1))


class Masked(nn.Module):
    """Tokens with positions up to 20, and a mask of the same shape."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(100, 16)
        self.positions = nn.Embedding(20, 16)
        self.head = nn.Linear(16, 3)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.table(ids) + self.positions(torch.arange(ids.size(1)))
        return self.head((x * mask.unsqueeze(-1)).sum(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(8, 16, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cells(x)[0][:, -1])


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(5, 3)
        self.right = nn.Linear(7, 3)

    def forward(self, x: Tensor, y: Tensor, scale: float = 1.0) -> Tensor:
        return self.left(x) + self.right(y) * scale


class Rectangular(nn.Module):
    """Takes images of 7 × 13 alone, which nothing about it says."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4 * 7 * 13, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.stem(x)).flatten(1))


class OneHot(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.one_hot(x, 7).float().mean(1))


class Needy(nn.Module):
    def forward(self, x: Tensor, steps: int) -> Tensor:
        return x * steps


def flat(width: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(width, 20), nn.ReLU(), nn.Linear(20, 10))


def side_of_100() -> nn.Module:
    head = nn.Linear(4 * 50 * 50, 4)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2), nn.Flatten(), head)


def guess(model: nn.Module) -> list[tuple[tuple[int, ...], torch.dtype]]:
    arguments = read_arguments(model)
    inputs = sum(arguments[p].default is None for p in tensor_positions(arguments))
    example = find_example(model, inputs, None)
    assert example.origin == "guessed"
    with torch.inference_mode():
        model(*example.batch)
    return [(tuple(tensor.shape[1:]), tensor.dtype) for tensor in example.batch]


F32, I64 = torch.float32, torch.int64


@pytest.mark.parametrize("how", ["scripted", "frozen"])
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (nn.Sequential(nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10)), [((64,), F32)]),
        (nn.Linear(32, 3), [((32,), F32)]),
        (nn.Sequential(nn.BatchNorm1d(13), nn.Linear(13, 3)), [((13,), F32)]),
        (nn.Sequential(nn.LayerNorm(9), nn.Linear(9, 3)), [((9,), F32)]),
        (nn.Linear(7, 3, dtype=torch.bfloat16), [((7,), torch.bfloat16)]),
        (flat(28 * 28), [((1, 28, 28), F32)]),
        (flat(3 * 32 * 32), [((3, 32, 32), F32)]),
        (flat(57), [((57,), F32)]),
        (LeNet(1, 28), [((1, 28, 28), F32)]),
        (LeNet(3, 32), [((3, 32, 32), F32)]),
        (side_of_100(), [((3, 100, 100), F32)]),
        (Standardised(), [((3, 32, 32), F32)]),
        (ChannelsLast(), [((32, 32, 3), F32)]),
        (Patches(224), [((3, 224, 224), F32)]),
        (Patches(48), [((3, 48, 48), F32)]),
        (Patches(64, checked=True), [((3, 64, 64), F32)]),
        (nn.Sequential(nn.Conv1d(2, 4, 9), nn.AdaptiveAvgPool1d(1)), [((2, 32), F32)]),
        (nn.Conv3d(1, 4, 3), [((1, 32, 32, 32), F32)]),
        (Tokens(), [((32,), I64)]),
        (Masked(), [((16,), I64), ((16,), I64)]),
        (OneHot(), [((32,), I64)]),
        (Recurrent(), [((32, 8), F32)]),
        (TwoInputs(), [((5,), F32), ((7,), F32)]),
    ],
)
def test_an_input_is_guessed_from_what_the_model_does(
    archive: Archive, model: nn.Module, expected: list[object], how: str
) -> None:
    assert guess(archive(model, torch.empty(0), how)) == expected


def test_guessing_gives_the_same_values_every_time(archive: Archive) -> None:
    model = archive(LeNet(1, 28), torch.empty(0))
    first, second = (find_example(model, 1, None).batch[0] for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


def test_what_fits_no_guess_says_what_was_tried_and_what_to_do(archive: Archive) -> None:
    with pytest.raises(JobError) as refused:
        guess(archive(Rectangular(), torch.empty(0)))
    failure = refused.value.failure
    assert failure.code is FailureCode.INPUT_MISMATCH
    assert "Tried samples of 2x32x32; 3x32x32; " in failure.message
    assert "mat1 and mat2 shapes cannot be multiplied" in failure.message
    assert failure.hint is not None
    assert "input=3x224x224" in failure.hint


def test_a_declared_input_is_used_and_nothing_else_tried(archive: Archive) -> None:
    model = archive(Rectangular(), torch.empty(0))
    example = find_example(model, 1, Recorded("declared", (Form((3, 7, 13)),)))
    assert (example.origin, tuple(example.batch[0].shape[1:])) == ("declared", (3, 7, 13))
    with pytest.raises(JobError, match=r"the declared shape\. Tried samples of 3x7x12\."):
        find_example(model, 1, Recorded("declared", (Form((3, 7, 12)),)))


def traced(model: nn.Module, example: Tensor) -> io.BytesIO:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        torch.jit.save(torch.jit.trace(model.eval(), example), file)
    file.seek(0)
    return file


def test_a_traced_archive_says_what_it_was_made_with() -> None:
    file = traced(Rectangular(), torch.rand(2, 3, 7, 13))
    model = load_model(file)
    recorded = read_recorded(model, file)
    assert recorded == Recorded("traced", (Form((3, 7, 13)),), 2)
    assert find_example(model, 1, recorded).origin == "traced"


class FixedBatch(nn.Module):
    """Written for three samples."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.view(3, 6))


def test_the_batch_size_of_a_traced_archive_is_kept_where_it_must_be() -> None:
    file = traced(FixedBatch(), torch.rand(3, 2, 3))
    model = load_model(file)
    example = find_example(model, 1, read_recorded(model, file))
    assert tuple(example.batch[0].shape) == (3, 2, 3)


def test_other_archives_say_nothing() -> None:
    file = io.BytesIO(scripted(Tokens()))
    assert read_recorded(load_model(file), file) is None


def test_an_exported_program_says_what_it_takes(archive: Archive) -> None:
    model = archive(Rectangular(), torch.rand(2, 3, 7, 13), "exported")
    recorded = read_recorded(model, io.BytesIO())
    assert recorded == Recorded("exported", (Form((3, 7, 13)),), None)
    assert [argument.name for argument in read_arguments(model)] == ["x"]
    assert find_example(model, 1, recorded).origin == "exported"


def test_arguments_are_read_with_types_and_defaults(archive: Archive) -> None:
    arguments = read_arguments(archive(TwoInputs(), torch.empty(0)))
    assert [(a.name, a.type, a.default) for a in arguments] == [
        ("x", "Tensor", None),
        ("y", "Tensor", None),
        ("scale", "float", "1.0"),
    ]


def test_an_argument_that_no_tensor_fills_is_named(archive: Archive) -> None:
    with pytest.raises(JobError, match="the argument `steps` of type int"):
        tensor_positions(read_arguments(archive(Needy(), torch.empty(0))))

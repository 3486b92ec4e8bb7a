"""Models that refuse for reasons of their own: told as they are, and never a crash."""

from collections.abc import Callable

import pytest
import torch
from mismatched import refused, vectors
from torch import Tensor, nn

from service.contract.failures import FailureCode
from workers.extraction import discover
from workers.extraction.fit.mismatch import explain
from workers.extraction.trace.execution import execute
from workers.protocol.errors import JobError

Archive = Callable[..., torch.jit.ScriptModule]


class Unpacking(nn.Module):
    """Its own code, not an operation, refuses what has no four axes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        rows, channels, height, width = x.shape
        return self.fc(x.reshape(rows, channels * height * width))


def test_a_refusal_in_the_models_own_code_is_worked_around(archive: Archive) -> None:
    failure = refused(archive(Unpacking(), torch.rand(2, 3, 2, 2)), torch.rand(20, 12))
    assert "Its first parameter fc.weight has shape [5, 12] (float32)" in failure.message
    assert "(n, 3, 2, 2): store images as images (tried: it runs)" in (failure.hint or "")


class OneHot(nn.Module):
    """The operation that refuses the input has no weight to compare it with."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(nn.functional.one_hot(x, 10).to(torch.float32).mean(1))


def test_whole_numbers_are_tried_where_nothing_is_known(archive: Archive) -> None:
    given = torch.randint(10, (20, 4)).float()
    failure = refused(archive(OneHot(), torch.ones(2, 4, dtype=torch.int64)), given)
    assert failure.detail["suggestion"] == {"dtype": "int64"}


class Twisted(nn.Module):
    """Fails in operations whose arguments are not those of a layer."""

    def __init__(self, way: int) -> None:
        super().__init__()
        self.way = way
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        if self.way == 0:
            return torch.matmul(x, torch.tensor(1.0))
        if self.way == 1:
            return torch.nn.functional.conv2d(x, torch.ones(3))
        if self.way == 2:
            return torch.nn.functional.embedding(x.to(torch.int64), torch.tensor(1.0))
        return x.reshape([3] * 5000)


@pytest.mark.parametrize("way", range(4))
def test_odd_arguments_of_a_failing_operation_are_no_crash(way: int, archive: Archive) -> None:
    failure = refused(archive(Twisted(way), torch.rand(2, 12)), torch.rand(20, 12))
    assert "Its error: " in failure.message
    assert len(failure.message) < 2000


class Unwilling(nn.Module):
    """Counts its runs, and refuses them with a text of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1.0)
        if bool(self.calls > 0.0):
            raise ValueError("\x1b[31mnot yet")
        return self.fc(x)


def test_a_model_without_reason_is_tried_a_few_times_and_quoted_safely(archive: Archive) -> None:
    model = archive(Unwilling(), torch.rand(2, 12))
    batch = (torch.rand(20, 12).double(),)
    with pytest.raises(JobError) as caught:
        execute(model, batch)
    failure = explain(model, batch, caught.value).failure
    assert "\\x1b[31mnot yet" in failure.message
    assert failure.message.isprintable()
    assert float(model.calls) <= 1 + 1 + 8


class Shapeless(nn.Module):
    """Takes any number of axes, and mixes up what does not have two."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


def test_a_conversion_that_gives_no_row_per_sample_is_not_suggested(archive: Archive) -> None:
    model = archive(Shapeless(), torch.rand(2, 12))
    failure = refused(model, torch.rand(20, 12, 1, 3))
    assert "suggestion" not in failure.detail
    assert "None of the usual conversions" in (failure.hint or "")


def test_a_dtype_that_no_probe_has_is_explained_all_the_same(archive: Archive) -> None:
    model = archive(vectors(), torch.rand(2, 12))
    failure = refused(model, torch.rand(20, 12).bfloat16())
    assert "as float32; it was given 12, in shape [16, 12] (bfloat16)" in failure.message
    assert "suggestion" not in failure.detail


class Limited(nn.Module):
    """Takes so many samples at once, and no more."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.fc = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 5))

    def forward(self, x: Tensor) -> Tensor:
        if x.size(0) > self.most:
            raise RuntimeError("the batch is too large")
        return self.fc(x)


@pytest.mark.parametrize(("most", "expected"), [(64, 64), (100, 64), (33, 32), (17, 16)])
def test_a_batch_that_is_too_large_is_told_with_the_size_that_runs(
    most: int, expected: int, archive: Archive
) -> None:
    model, batch = archive(Limited(most), torch.rand(2, 12)), torch.rand(256, 12)
    extractor = discover(model, (batch,))
    with pytest.raises(JobError) as caught:
        extractor.run((batch,))
    failure = caught.value.failure
    assert failure.code == FailureCode.INPUT_MISMATCH
    assert "the batch is too large. It runs on the same samples" in failure.message
    assert failure.hint is not None
    assert f'"options": {{"batch_size": {expected}}}' in failure.hint
    for start in range(0, 256, expected):
        extractor.run((batch[start : start + expected],))

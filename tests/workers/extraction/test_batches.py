"""What must hold from batch to batch: proof on each, independent samples, untouched data."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workers.extraction import discover
from workers.extraction.trace.execution import Watch
from workers.protocol.errors import JobError

Archive = Callable[..., nn.Module]


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(12, 16), nn.ReLU())
        self.fc = nn.Linear(16, 5)
        self.other = nn.Linear(16, 5)


class Branching(Base):
    """Takes another head for some inputs."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        if bool(x.mean() > 1.0):
            return self.other(h)
        return self.fc(h)


class ScaledByInput(Base):
    """The factor is a number when it meets the logits: no tensor shows where it came from."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.trunk(x)) * float(x.max().item())


class LaterSoftmax(Base):
    def forward(self, x: Tensor) -> Tensor:
        u = self.fc(self.trunk(x))
        if bool(x.mean() > 1.0):
            return torch.softmax(u, dim=1)
        return u


@pytest.mark.parametrize("model", [Branching, ScaledByInput, LaterSoftmax])
def test_a_batch_that_breaks_the_relation_is_refused(
    model: type[nn.Module], archive: Archive
) -> None:
    torch.manual_seed(0)
    script = archive(model(), torch.randn(2, 12))
    extractor = discover(script, (torch.randn(16, 12),))
    with pytest.raises(JobError) as caught:
        extractor.run((torch.randn(32, 12) + 2.0,))
    assert caught.value.failure.detail["code"] == "residual"


def test_non_finite_features_of_a_later_batch_are_counted(archive: Archive) -> None:
    torch.manual_seed(0)
    extractor = discover(
        archive(nn.Sequential(Base().trunk, nn.Linear(16, 5)), torch.randn(2, 12)),
        (torch.randn(16, 12),),
    )
    bad = torch.randn(32, 12)
    bad[[7, 20]] = float("nan")
    with pytest.raises(JobError) as caught:
        extractor.run((bad,))
    failure = caught.value.failure
    assert failure.code == "non_finite"
    assert "2 of 32 samples" in failure.message
    assert "first in row 7" in failure.message
    assert "inputs themselves are not finite" in failure.message


class Whitening(Base):
    """Hand-written batch statistics: a sample's features depend on its neighbours."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return self.fc((h - h.mean(dim=0)) / (h.std(dim=0) + 0.1))


def test_samples_that_influence_each_other_are_reported(archive: Archive) -> None:
    torch.manual_seed(0)
    batch = torch.randn(16, 12)
    found = discover(archive(Whitening(), batch), (batch,)).feature_map
    assert [warning.split(":")[0] for warning in found.warnings] == ["batch_dependent"]


class ScaledToRange(Base):
    """Divides a batch that holds an extreme value by it."""

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.abs().max() > 100.0):
            x = x / x.abs().max()
        return self.fc(self.trunk(x))


class CentredIfLarge(Base):
    def forward(self, x: Tensor) -> Tensor:
        if x.size(0) > 32:
            x = x - x.mean(dim=0)
        return self.fc(self.trunk(x))


class Positions(ScaledToRange):
    """Answers for each of three positions of a sample."""

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.abs().max() > 100.0):
            x = x / x.abs().max()
        return self.fc(self.trunk(x[:, None] * torch.arange(1, 4)[:, None]))


def warned(model: nn.Module, x: Tensor, size: int) -> list[str]:
    """Codes of the warnings after all batches of some size were run."""
    extractor = discover(model, (x[:size],))
    for start in range(0, len(x), size):
        extractor.run((x[start : start + size],))
    return [warning.split(":")[0] for warning in extractor.feature_map.warnings]


@pytest.mark.parametrize("model", [ScaledToRange, Positions])
@pytest.mark.parametrize("size", [16, 50, 100, 256])
def test_samples_that_influence_each_other_in_a_later_batch_are_reported(
    model: type[nn.Module], size: int, archive: Archive
) -> None:
    torch.manual_seed(0)
    x = torch.randn(512, 12)
    script = archive(model(), x)
    assert warned(script, x, size) == []
    x[int(0.7 * 512) :, 3] *= 1000
    assert warned(script, x, size) == ["batch_dependent"]


@pytest.mark.parametrize("size", [4, 16, 100, 256])
def test_they_are_whichever_sample_it_is_that_changes_the_others(
    size: int, archive: Archive
) -> None:
    torch.manual_seed(0)
    script = archive(ScaledToRange(), torch.randn(2, 12))
    for extreme in range(0, size, max(1, size // 50)):
        x = torch.randn(2 * size, 12)
        x[size + extreme, 3] = 1000.0
        assert warned(script, x, size) == ["batch_dependent"], extreme


def test_a_batch_that_is_treated_by_its_size_is_reported(archive: Archive) -> None:
    torch.manual_seed(0)
    x = torch.randn(300, 12)
    assert warned(archive(CentredIfLarge(), x), x, 16) == []
    assert warned(archive(CentredIfLarge(), x), x, 100) == ["batch_dependent"]


class Squeezing(Base):
    """Drops the axis of a single sample."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.trunk(x)).squeeze()


class NeedingThree(Base):
    def forward(self, x: Tensor) -> Tensor:
        if x.size(0) < 3:
            raise RuntimeError("expected more than two samples")
        return self.fc(self.trunk(x))


@pytest.mark.parametrize("model", [Squeezing, NeedingThree])
def test_what_a_model_cannot_run_on_is_no_dependence(
    model: type[nn.Module], archive: Archive
) -> None:
    torch.manual_seed(0)
    x = torch.randn(32, 12)
    assert warned(archive(model(), x), x, 16) == []


class Watched(Watch):
    """Counts the samples that pass through the head."""

    rows = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.dim() == 2 and result.size(1) == 5:
            self.rows += result.size(0)
        return result


def test_what_watches_a_batch_sees_it_once(archive: Archive) -> None:
    torch.manual_seed(0)
    x = torch.randn(128, 12)
    extractor = discover(archive(nn.Sequential(Base().trunk, nn.Linear(16, 5)), x), (x,))
    watch = Watched()
    extractor.run((x,), watch)
    assert watch.rows == 128


class Cumulative(Base):
    """A sample's features depend on those before it, so that any first half of a batch agrees."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.trunk(x).cumsum(0))


class Reversed(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.trunk(x)).flip(0)


@pytest.mark.parametrize("model", [Cumulative, Reversed])
def test_rows_that_do_not_follow_the_samples_are_refused(
    model: type[nn.Module], archive: Archive
) -> None:
    torch.manual_seed(0)
    batch = torch.randn(16, 12)
    with pytest.raises(JobError) as caught:
        discover(archive(model(), batch), (batch,))
    assert caught.value.failure.detail["code"] == "bad_output"
    assert "do not follow the samples" in caught.value.failure.message


class Rounded(Base):
    """Rounds its outputs on the way, which the tolerance must know."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.trunk(x)).half().float()


def test_a_cast_after_the_head_widens_the_tolerance(archive: Archive) -> None:
    torch.manual_seed(0)
    batch = torch.randn(64, 12)
    extractor = discover(archive(Rounded(), batch), (batch,))
    extractor.run((batch,))
    assert 1e-5 < extractor.residual < 1e-2


class Baked(Base):
    """Reshapes to the batch size it was traced with, and fails on every other."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.numpy().shape[0]  # a plain number for the tracer
        return self.fc(self.trunk(x).reshape(rows, 2, 8).reshape(rows, 16))


@pytest.mark.parametrize("rows", [1, 4, 16, 64])
def test_a_baked_batch_size_is_found_and_kept(rows: int, archive: Archive) -> None:
    torch.manual_seed(0)
    net = Baked().eval()
    extractor = discover(archive(net, torch.randn(rows, 12), "traced"), (torch.randn(40, 12),))
    assert extractor.feature_map.warnings[0].startswith(
        f"fixed_batch: the archive takes exactly {rows} "
    )
    batch = torch.randn(21, 12)
    extracted = extractor.run((batch,))
    with torch.no_grad():
        torch.testing.assert_close(extracted.phi, net.trunk(batch))
        torch.testing.assert_close(extracted.outputs, net(batch))


class Limited(Base):
    """Takes so many samples, or fails for what some of them say."""

    def __init__(self, fewest: int, most: int) -> None:
        super().__init__()
        self.fewest, self.most = fewest, most

    def forward(self, x: Tensor) -> Tensor:
        if x.size(0) < self.fewest or x.size(0) > self.most:
            raise RuntimeError("another number of samples")
        return self.fc(self.trunk(x))


class Neighbours(Base):
    """The first column of each sample is the number of another one."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return self.fc(h + 0.1 * h[x[:, 0].long()])


def told_of_size(model: nn.Module, batch: Tensor) -> str:
    warning = discover(model, (batch,)).feature_map.warnings[0]
    assert warning.startswith("fixed_batch: the archive ")
    return warning


@pytest.mark.parametrize(
    ("fewest", "most", "said"),
    [
        (10, 1000, "runs on 16 samples at a time, and on 15 and 17, but not on every number"),
        (16, 1000, "runs on 16 samples at a time, and on 17, but not on every number"),
        (16, 16, "takes exactly 16 samples at a time"),
        (20, 1000, "runs on 40 samples at a time, and on 39 and 41, but not on every number"),
        (1, 1, "takes exactly 1 samples at a time"),
    ],
)
def test_only_what_runs_on_no_other_number_is_said_to_take_exactly_that(
    fewest: int, most: int, said: str, archive: Archive
) -> None:
    batch = torch.randn(40, 12)
    assert said in told_of_size(archive(Limited(fewest, most), batch), batch)


@pytest.mark.parametrize("furthest", [12, 30])
def test_a_model_that_fails_on_other_samples_is_not_said_to_take_a_number(
    furthest: int, archive: Archive
) -> None:
    torch.manual_seed(0)
    batch = torch.randn(40, 12)
    batch[:, 0] = torch.arange(40).flip(0) * furthest // 39
    assert "exactly" not in told_of_size(archive(Neighbours(), batch), batch)


class Overwriting(Base):
    """Normalises its input in place."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.trunk(x.sub_(1.0)))


def test_the_callers_batch_is_left_as_it_was(archive: Archive) -> None:
    torch.manual_seed(0)
    net = Overwriting().eval()
    batch = torch.randn(16, 12)
    kept = batch.clone()
    extractor = discover(archive(net, batch.clone()), (batch,))
    extracted = extractor.run((batch,))
    assert torch.equal(batch, kept)
    with torch.no_grad():
        torch.testing.assert_close(extracted.outputs, net(batch))


def test_one_sample_and_a_head_of_zeros_are_fine(archive: Archive) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 5))
    nn.init.zeros_(net[2].weight)
    extractor = discover(archive(net, torch.randn(2, 12)), (torch.randn(16, 12),))
    extracted = extractor.run((torch.randn(1, 12),))
    assert extracted.phi.shape == (1, 16)
    assert extractor.residual == 0


class Named(Base):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.trunk(x)
        return {"norm": h.square().sum(dim=1), "logits": self.fc(h)}


def test_the_only_output_with_a_head_is_taken(archive: Archive) -> None:
    found = discover(archive(Named(), torch.randn(2, 12)), (torch.randn(16, 12),)).feature_map
    assert (found.output, found.location, found.outputs) == ("logits", "fc.weight", 5)


class LogitsAndProbabilities(Base):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        u = self.fc(self.trunk(x))
        return torch.softmax(u, dim=1), u


def test_outputs_of_one_head_do_not_compete(archive: Archive) -> None:
    script = archive(LogitsAndProbabilities(), torch.randn(2, 12))
    found = discover(script, (torch.randn(16, 12),)).feature_map
    assert (found.output, found.link, found.location) == ("1", "identity", "fc.weight")


@pytest.mark.parametrize(
    ("how", "location"),
    [("scripted", "2.weight"), ("traced", "2.weight"), ("frozen", "aten::linear (operation")],
)
def test_location_and_parameter_count(how: str, location: str, archive: Archive) -> None:
    net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 5))
    found = discover(archive(net, torch.randn(2, 12), how), (torch.randn(16, 12),)).feature_map
    assert found.location.startswith(location)
    assert found.parameters == 12 * 16 + 16 + 16 * 5 + 5


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_precisions_have_their_own_tolerance(dtype: torch.dtype, archive: Archive) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 5)).to(dtype)
    batch = torch.randn(64, 12, dtype=dtype)
    extractor = discover(archive(net, batch[:2]), (batch,))
    extracted = extractor.run((batch,))
    assert extracted.phi.dtype == dtype
    assert extractor.feature_map.dtype == str(dtype).removeprefix("torch.")
    assert extractor.residual < {torch.float64: 1e-12}.get(dtype, 1e-2)

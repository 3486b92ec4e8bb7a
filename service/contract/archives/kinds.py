"""Kinds of files that are uploaded by mistake instead of a program, and what to upload instead."""

import io
import pickletools
import re
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

from service.contract.archives.part import Part

HEAD_BYTES = 512
_MAX_READ_BYTES = 2 << 20
_MAX_NAMES = 20_000
_MAX_PICKLE_BYTES = 1 << 20
_SHOWN = 80


@dataclass(frozen=True)
class Kind:
    """A kind of file that is not a program.

    Attributes:
        what: What people call it.
        instead: What its owner can do.
    """

    what: str
    instead: str


_SAVE = (
    "save it with torch.jit.save(torch.jit.script(model.eval()), path), or with "
    "torch.export.save(torch.export.export(model.eval(), (example,)), path), and send that file."
)
_WEIGHTS = f"Weights do not say what is computed with them. Load them into the model, and {_SAVE}"
_PICKLED = f"Where the model's class is at hand, load it there with torch.load, and {_SAVE}"
_FOREIGN = (
    "Only programs of PyTorch are read. If the model exists in PyTorch, too, " + _SAVE + " If not, "
    "rebuild it there (onnx2torch, for one, makes a module of an ONNX file) and save that."
)
_UNPACK = "Unpack it, and send the model that is in it."
_AS_PROBE = "Data are sent as a probe: POST /v1/probes; a single array within an .npz file."
_TENSOR = f"Of the model that is meant, {_SAVE} {_AS_PROBE}"
UNKNOWN = Kind("none of the formats known here", f"Of the model that is meant, {_SAVE}")

# By what a file starts with.
_HEADS: tuple[tuple[re.Pattern[bytes], Kind], ...] = tuple(
    (re.compile(pattern, re.DOTALL), Kind(what, instead))
    for pattern, what, instead in (
        (
            rb"version https://git-lfs",
            "a Git LFS pointer, which stands for a file that was not fetched",
            "Fetch it with `git lfs pull`, and send it.",
        ),
        (
            rb"\s*<(?:!doctype|!DOCTYPE|html|HTML)\b",
            "a web page, perhaps of a download that asked for a login",
            "Download the model itself, and send it.",
        ),
        (rb"GGUF|ggml|ggjt", "a GGUF file: weights of a language model for llama.cpp", _WEIGHTS),
        (
            rb"\x89HDF\r\n\x1a\n",
            "an HDF5 file (.h5), as Keras and others keep weights in",
            _FOREIGN,
        ),
        (rb".{4}TFL3", "a TensorFlow Lite model", _FOREIGN),
        (
            rb".{4}ET\d\d",
            "an ExecuTorch program (.pte)",
            f"Of the model it was made from, {_SAVE}",
        ),
        (rb"\x08\x01\x12", "a TensorFlow SavedModel or Core ML model", _FOREIGN),
        (rb"\x08[\x02-\x14]", "an ONNX or Core ML model (a protocol buffer)", _FOREIGN),
        (
            rb"\x80[\x02-\x05]\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19",
            "a torch.save file of PyTorch before 1.6 (a state_dict or a pickled module)",
            _PICKLED,
        ),
        (
            rb"\x80[\x02-\x05]",
            "a Python pickle, of scikit-learn, joblib or an old torch.save",
            _PICKLED,
        ),
        (rb"\x93NUMPY", "a NumPy .npy array", _AS_PROBE),
        (rb"PAR1", "a Parquet table", _AS_PROBE),
        (rb".{257}ustar", "a tar archive", _UNPACK),
        (rb"\x1f\x8b", "a gzip file (.gz, .tar.gz)", _UNPACK),
        (rb"BZh\d", "a bzip2 file", _UNPACK),
        (rb"\xfd7zXZ", "an xz file", _UNPACK),
        (rb"\x28\xb5\x2f\xfd", "a Zstandard file", _UNPACK),
        (rb"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
        (rb"Rar!", "a RAR archive", _UNPACK),
        (rb"\x89PNG|\xff\xd8\xff|GIF8", "a picture", "Send a model; pictures belong in a probe."),
        (rb"%PDF", "a PDF document", f"Of the model that is meant, {_SAVE}"),
        (rb"\x7fELF|MZ", "a compiled program or library", f"Of the model that it runs, {_SAVE}"),
        (rb"\s*<\?xml", "XML, such as a network of OpenVINO", _FOREIGN),
        (rb".{8}\{", "a safetensors file: weights without the program that uses them", _WEIGHTS),
        (rb"\s*[{\[]", "JSON text, such as a model's configuration", _WEIGHTS),
        (
            rb"(?:#!|#|\"\"\"|import |from |class |def )",
            "source code",
            f"Run it to build the model, and {_SAVE}",
        ),
    )
)

_PROGRAMS = re.compile(r".+\.(pt|pth|pt2|jit|ts|torchscript)", re.IGNORECASE)

# By the names in a zip file.
_NAMES: tuple[tuple[str, Kind], ...] = (
    (
        r"[^/]+/bytecode\.pkl",
        Kind(
            "a TorchScript archive for mobile devices (.ptl, of the lite interpreter)",
            "Save the module it was made from before optimize_for_mobile: "
            "torch.jit.script(model.eval()).save(path), and send that file.",
        ),
    ),
    (
        r"(.+/)?data/aotinductor/.+",
        Kind(
            "a program compiled by AOTInductor, whose layers cannot be seen",
            f"Before it is compiled, {_SAVE}",
        ),
    ),
    (
        r"(.+/)?serialized_exported_program\.json",
        Kind(
            "a torch.export .pt2 archive of an old kind",
            "Save it again with torch 2.8 or newer: torch.export.load it, and "
            "torch.export.save it.",
        ),
    ),
    (
        r".+\.dist-info/WHEEL",
        Kind("a Python wheel, a package to install", f"Install it, build the model, and {_SAVE}"),
    ),
    (r"(.+/)?model\.weights\.h5", Kind("a Keras model (.keras)", _FOREIGN)),
    (r"(.+/)?saved_model\.pb", Kind("a TensorFlow SavedModel", _FOREIGN)),
    (r"(.+/)?(Data/com\.apple\.CoreML/.+|.+\.mlmodel)", Kind("a Core ML package", _FOREIGN)),
    (r"MAR-INF/.+", Kind("a TorchServe archive (.mar)", _UNPACK)),
    (r".+\.npy", Kind("an .npz file: arrays, no model", _AS_PROBE)),
)


class _Sparing(Part):
    """A file that limits each read, since a zip directory states its own size and may lie."""

    def read(self, size: int = -1, /) -> bytes:
        """Read some bytes.

        Raises:
            ValueError: More bytes are asked for than one read may return.
        """
        here = self.tell()
        left = self.seek(0, io.SEEK_END) - here
        self.seek(here)
        wanted = left if size < 0 else min(size, left)
        if wanted > _MAX_READ_BYTES:
            raise ValueError(f"{wanted} bytes are too many")
        return super().read(wanted) or b""


def kind_of_head(head: bytes) -> Kind:
    """Recognize a file that is not a zip by its first bytes."""
    return next((kind for pattern, kind in _HEADS if pattern.match(head)), UNKNOWN)


def kind_of_zip(file: BinaryIO) -> Kind | None:
    """Tell a zip file that holds no program; None for one that looks as if it did, or is damaged.

    Args:
        file: Seekable. Nothing in it is unpacked but the list that a torch.save file begins with.
    """
    try:
        with zipfile.ZipFile(_Sparing(file, 0, file.seek(0, io.SEEK_END))) as archive:
            names = [entry.filename for entry in islice(archive.infolist(), _MAX_NAMES)]
            found = _kind_of_names(names)
            if found is None and (pickled := _saved(names)) is not None:
                found = _kind_of_saved(archive, pickled)
    except (zipfile.BadZipFile, ValueError, OSError, RuntimeError, NotImplementedError):
        return None  # what is wrong with it is said otherwise
    return found


def _kind_of_names(names: Collection[str]) -> Kind | None:
    for pattern, kind in _NAMES:
        if any(re.fullmatch(pattern, name) for name in names):
            return kind
    inner = {name.partition("/")[2] for name in names}
    if (
        "constants.pkl" in inner
        or "data.pkl" in inner
        or any(n.startswith("models/") for n in inner)
    ):
        return None
    if programs := [name for name in names if _PROGRAMS.fullmatch(name)]:
        return Kind(
            f"a zip file that holds {programs[0][:_SHOWN]!r}",
            "Unpack it, and send what is in it, one model at a time.",
        )
    weights = [name for name in names if name.endswith((".safetensors", ".bin", ".ckpt", ".h5"))]
    if weights:
        return Kind(f"a zip file with weights ({weights[0][:_SHOWN]!r}), no program", _WEIGHTS)
    if foreign := [
        name for name in names if name.endswith((".onnx", ".tflite", ".pb", ".mlmodel"))
    ]:
        return Kind(
            f"a zip file that holds {foreign[0][:_SHOWN]!r}, no program of PyTorch", _FOREIGN
        )
    return Kind("a zip file of something else", UNKNOWN.instead)


def _saved(names: Collection[str]) -> str | None:
    """Return the pickle of a torch.save file, if it is one."""
    pickles = [name for name in names if name.partition("/")[2] == "data.pkl"]
    programs = any(name.partition("/")[2] == "constants.pkl" for name in names)
    return pickles[0] if len(pickles) == 1 and not programs else None


def _kind_of_saved(archive: zipfile.ZipFile, name: str) -> Kind:
    with archive.open(name) as packed:
        root = _root_class(packed.read(_MAX_PICKLE_BYTES))
    if root is None or root.partition(".")[0] in _PLAIN:
        return Kind("a torch.save checkpoint: a state_dict, weights without a program", _WEIGHTS)
    if root.startswith(_TENSORS):
        return Kind("a torch.save file of a single tensor, which computes nothing", _TENSOR)
    return Kind(
        f"a torch.save file of a whole object of the class {root[:_SHOWN]!r}, which holds its "
        "weights and not what it computes",
        _PICKLED,
    )


# What a checkpoint may be, at its root.
_PLAIN = frozenset({"collections", "builtins", "__builtin__", "__torch__"})
# What makes a tensor, at the root of one that was saved alone.
_TENSORS = ("torch._utils._rebuild_", "torch._tensor._rebuild_")
_BEFORE_ROOT = frozenset({"PROTO", "FRAME", "MEMOIZE", "BINPUT", "SHORT_BINUNICODE", "BINUNICODE"})


def _root_class(pickled: bytes) -> str | None:
    """Return the class of a pickled object; None where it is a dict, a list or the like."""
    texts: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(pickled)):
            if opcode.name == "GLOBAL":
                return str(argument).replace(" ", ".")
            if opcode.name == "STACK_GLOBAL":
                return ".".join(texts[-2:])
            if opcode.name not in _BEFORE_ROOT:
                return None
            texts += [argument] if isinstance(argument, str) else []
    except ValueError:  # it was cut, or is none
        return None
    return None

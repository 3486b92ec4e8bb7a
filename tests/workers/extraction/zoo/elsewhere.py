"""Archives as a machine with a GPU writes them, made without one: devices edited in the archive."""

import io
import re
import zipfile
from collections.abc import Callable

CPU_IN_CODE, GPU_IN_CODE = b'torch.device("cpu")', b'torch.device("cuda:0")'
# Texts of a pickle: opcode, length, characters.
CPU_IN_PICKLE, GPU_IN_PICKLE = b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"
CPU_IN_JSON, GPU_IN_JSON = rb'\{"type": "cpu", "index": null\}', b'{"type": "cuda", "index": 0}'


def edited(archive: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """An archive with other contents of its entries."""
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(archive)) as before,
        zipfile.ZipFile(packed, "w") as after,
    ):
        for entry in before.infolist():
            after.writestr(entry.filename, change(entry.filename, before.read(entry)))
    return packed.getvalue()


def on_gpu(archive: bytes) -> bytes:
    """As if the model had been on the GPU when it was saved."""
    return edited(archive, _moved)


def _moved(name: str, content: bytes) -> bytes:
    if name.endswith(".py"):
        return content.replace(CPU_IN_CODE, GPU_IN_CODE)
    if name.endswith(".pkl"):
        return content.replace(CPU_IN_PICKLE, GPU_IN_PICKLE)
    if name.endswith(".json"):
        return re.sub(CPU_IN_JSON, GPU_IN_JSON, content)
    if name.endswith(".pt"):
        return on_gpu(content)
    return content

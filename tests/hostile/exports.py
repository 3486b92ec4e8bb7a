"""Exported programs whose parts are pickles that torch would carry out when it reads them."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from functools import cache

import torch
from support import exported, multilayer

from tests.hostile.archives import NO_MODEL, UNSAFE, Hostile, pack


class Command:
    """An object whose pickle runs a command when it is read."""

    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self._command,)


@cache
def entries() -> dict[str, bytes]:
    """Those of an honest exported program."""
    content = exported(multilayer(), torch.zeros(3, 64))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def saved(value: object) -> bytes:
    """A value as torch.save writes it."""
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def with_pickled_weight(value: object) -> bytes:
    """One of the weights is said to be a pickle, and is one."""
    changed = entries()
    table = json.loads(changed[_WEIGHTS])
    first = next(iter(table["config"].values()))
    first["use_pickle"] = True
    return pack(
        {
            **changed,
            _WEIGHTS: json.dumps(table).encode(),
            f"data/weights/{first['path_name']}": saved(value),
        }
    )


def _with(name: str, content: bytes) -> Callable[[], bytes]:
    return lambda: pack({**entries(), name: content})


def with_expression(expression: str, key: str = "expr_str") -> bytes:
    """Another size of the first axis; sympy has Python read it when the program is loaded."""
    graph = entries()[_GRAPH].decode()
    start = graph.index('"expr_str": ')
    end = graph.index('",', start) + 1
    changed = f'{graph[:start]}"{key}": {json.dumps(expression)}{graph[end:]}'
    return pack({**entries(), _GRAPH: changed.encode()})


def with_operation(spelled: str) -> bytes:
    """Another operation, written as JSON, in the place of the first."""
    graph = entries()[_GRAPH].decode()
    start = graph.index('"torch.ops.')
    end = graph.index('"', start + 1) + 1
    return pack({**entries(), _GRAPH: f'{graph[:start]}"{spelled}"{graph[end:]}'.encode()})


_GRAPH = "models/model.json"
_WEIGHTS = "data/weights/model_weights_config.json"
_SAMPLES = "data/sample_inputs/model.pt"
_OWNED = Command("touch /tmp/owned")

HOSTILE_EXPORTS: dict[str, Hostile] = {
    "a weight that runs a command": Hostile(
        lambda: with_pickled_weight(_OWNED), UNSAFE, "is a pickled object"
    ),
    "example inputs that run a command": Hostile(
        _with(_SAMPLES, saved(_OWNED)), UNSAFE, "posix.system"
    ),
    "example inputs as a bare pickle": Hostile(
        _with(_SAMPLES, pickle.dumps(_OWNED)), NO_MODEL, "cut off or damaged"
    ),
    "example inputs of another kind": Hostile(
        _with(_SAMPLES, pack({"version": b"3", "something": b"else"})), UNSAFE, "is no part"
    ),
    "example inputs larger than they are": Hostile(
        _with(_SAMPLES, saved(torch.zeros(8)).replace(b"K\x08", b"K\x7f")), NO_MODEL, "checksum"
    ),
    "a size that runs a command": Hostile(
        lambda: with_expression("__import__('os').system('touch /tmp/owned')"), UNSAFE, "__import__"
    ),
    "a size that opens a file": Hostile(
        lambda: with_expression("open('/etc/passwd')"), UNSAFE, "open("
    ),
    "a size with an attribute": Hostile(
        lambda: with_expression("Symbol('s').func"), UNSAFE, "the expression"
    ),
    "a graph that reads files": Hostile(
        lambda: with_operation("torch.ops.aten.from_file.default"), UNSAFE, "from_file"
    ),
    "a graph of unknown operations": Hostile(
        lambda: with_operation("torch.ops.evil.run.default"), UNSAFE, "'run'"
    ),
    "a constant that is an object": Hostile(
        _with("data/constants/custom_obj_0", pickle.dumps(_OWNED)), UNSAFE, "custom_obj_0"
    ),
    "a table of weights that is none": Hostile(
        _with(_WEIGHTS, b'{"config": [1, 2]}'), NO_MODEL, "model_weights_config.json"
    ),
    "a table of weights without an end": Hostile(
        _with(_WEIGHTS, b"[" * 1_000_000), NO_MODEL, "model_weights_config.json"
    ),
}

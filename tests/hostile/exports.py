"""Exported programs whose parts are pickles that torch would carry out when it reads them."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from support import exported, multilayer
from torch import nn

from tests.hostile.archives import NO_MODEL, UNSAFE, Hostile, pack

OWNED = "/tmp/owned"  # noqa: S108 - it is not to be written


class Command:
    """An object whose pickle runs a command when it is read."""

    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self._command,)


@cache
def entries(
    make: Callable[[], nn.Module] = multilayer, shape: tuple[int, ...] = (64,)
) -> dict[str, bytes]:
    """Those of an honest exported program for inputs of some shape."""
    content = exported(make(), torch.zeros(3, *shape))
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


def with_lost_record() -> bytes:
    """The first weight's record is not there."""
    return pack({k: v for k, v in entries().items() if k != "data/weights/weight_0"})


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
_OWNED = Command(f"touch {OWNED}")


class Padded(nn.Module):
    """Honest; makes a tensor anew, for another to be put in its place."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = multilayer()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(x.flatten(1))
        return logits + torch.zeros([1])


def writing(path: Path) -> bytes:
    """An exported program that makes a file, or overwrites it, when it runs."""
    return _mapping(path, shared=True)


def reading(path: Path) -> bytes:
    """An exported program that adds a file's first bytes to its answer."""
    return _mapping(path, shared=False)


def _mapping(path: Path, *, shared: bool) -> bytes:
    parts = entries(Padded, (1, 8, 8))
    program = json.loads(parts[_GRAPH])
    nodes = program["graph_module"]["graph"]["nodes"]
    (node,) = (each for each in nodes if each["target"] == "torch.ops.aten.zeros.default")
    node["target"] = "torch.ops.aten.from_file.default"
    given = {
        "filename": {"as_string": str(path)},
        "shared": {"as_bool": shared},
        "size": {"as_int": 1},
    }
    node["inputs"] = [{"name": key, "arg": value, "kind": 1} for key, value in given.items()]
    # The check looks for the name as exporters spell it.
    graph = json.dumps(program).replace("aten.from_file", r"aten.from\u005ffile")
    return pack({**parts, _GRAPH: graph.encode()})


def commanding(path: Path) -> bytes:
    """An exported program that runs a command when it is loaded; spelled as no exporter does."""
    return with_expression(f"__import__('os').system('touch {path}')", key=r"expr\u005fstr")


BREAKOUTS: dict[str, Callable[[Path], bytes]] = {
    "writes a file when run": writing,
    "runs a command when loaded": commanding,
}
"""They make a file, and evade the check of their archive: nothing but the walls is in their way."""

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
        lambda: with_expression(f"__import__('os').system('touch {OWNED}')"), UNSAFE, "__import__"
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
    "a weight without its numbers": Hostile(
        _with("data/weights/weight_0", b""), UNSAFE, "holds 0 bytes"
    ),
    "a weight with some of its numbers": Hostile(
        _with("data/weights/weight_0", bytes(64)), UNSAFE, "holds 64 bytes"
    ),
    "a weight without a record": Hostile(with_lost_record, UNSAFE, "is not there"),
    "a table of weights that is none": Hostile(
        _with(_WEIGHTS, b'{"config": [1, 2]}'), NO_MODEL, "model_weights_config.json"
    ),
    "a table of weights without an end": Hostile(
        _with(_WEIGHTS, b"[" * 1_000_000), NO_MODEL, "model_weights_config.json"
    ),
}

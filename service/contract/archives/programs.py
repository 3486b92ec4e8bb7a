"""What the programs in archives may name: early feedback for their owners, and a smaller target.

These checks do not cover every way of reaching files, nor every spelling of those they know. An
attacker will find one that passes, and is then stopped by the walls of the confined child.
"""

import re

from service.contract.archives.errors import unsafe
from service.contract.archives.zips import Archive, shown

MAX_GRAPH_BYTES = 256 << 20
_MAX_CODE_BYTES = 16 << 20
_MAX_CODE_LINES = 200_000
_MAX_LINE_BYTES = 1_000_000
_MAX_NESTING = 200

_BRACKETS = re.compile(rb"[()\[\]{}]")
_TEXTS_AND_COMMENTS = re.compile(rb"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|#[^\n]*""", re.DOTALL)
# Operations by which a program reaches for files, addresses or other machines, and those of unknown
# libraries. They are called by their library's name, which tells them from what a model itself may
# call `save` or `ops`.
_LIBRARIES = (
    *(b"aten", b"prim", b"prims", b"quantized", b"_quantized", b"quantized_decomposed"),
    *(b"torchvision", b"higher_order"),
)
_UNUSUAL_NAMES = rb"(save|from_file|data_ptr|_\w+_unsafe)"
_DOT, _CALL = rb"[\s\\]*\.[\s\\]*", rb"[\s\\]*\("
_UNUSUAL_OPERATIONS = re.compile(
    rb"(?<![.\w])(?:"
    rb"(?:torch|ops" + _DOT + rb"aten)" + _DOT + _UNUSUAL_NAMES + _CALL
    + rb"|(rpc_async|rpc_sync|rpc_remote)" + _CALL
    + rb"|ops" + _DOT + rb"(?!(?:" + b"|".join(_LIBRARIES) + rb")\b)(\w+)"
    + _DOT + rb"\w+" + _CALL
    + rb")"
)  # fmt: skip

_TARGETS = re.compile(rb'"target": *"torch\.ops\.(\w+)\.(\w+)')
_EXPRESSIONS = re.compile(rb'"expr_str": *"((?:[^"\\]|\\.)*)"')
# Sizes are written as calls of sympy's classes, `Mul(Integer(2), Symbol('s0'))`, and sympy has
# Python read them: a function, an attribute or a name with underscores is none of these.
_NO_ARITHMETIC = re.compile(rb"__|\.[ \t]*[A-Za-z_]|\b[a-z_]\w*[ \t]*\(|[^\w\s()=',.+*/<>~&|-]")


def check_code(archive: Archive) -> None:
    """Refuse TorchScript code that is too large, nests too deep, or calls unusual operations.

    Raises:
        ArchiveError: It does.
    """
    lines = total = 0
    for name, entry in archive.entries.items():
        if not name.startswith("code/"):
            continue
        total += entry.size
        if total > _MAX_CODE_BYTES:
            raise unsafe(f"its code has more than {_MAX_CODE_BYTES >> 20} MiB")
        if not name.endswith(".py"):
            continue
        source = archive.read(name, _MAX_CODE_BYTES)
        lines += source.count(b"\n")
        if lines > _MAX_CODE_LINES:
            raise unsafe(f"its code has more than {_MAX_CODE_LINES:,} lines")
        _check_source(source, name)


def _check_source(source: bytes, name: str) -> None:
    if max(map(len, source.split(b"\n"))) > _MAX_LINE_BYTES:
        raise unsafe(f"{shown(name)} has a line of more than {_MAX_LINE_BYTES:,} bytes")
    depth = 0
    for bracket in _BRACKETS.findall(source):
        depth += 1 if bracket in b"([{" else -1
        if depth > _MAX_NESTING:
            raise unsafe(f"{shown(name)} nests brackets deeper than {_MAX_NESTING} levels")
    unusual = _UNUSUAL_OPERATIONS.search(_TEXTS_AND_COMMENTS.sub(rb"\1", source))
    if unusual is not None:
        found = next(group for group in unusual.groups() if group is not None)
        raise unsafe(f"{shown(name)} uses the operation {shown(found.decode(errors='replace'))}")


def check_graph(content: bytes, name: str) -> None:
    """Refuse an exported program's graph that calls unusual operations, or runs code when read.

    Args:
        content: JSON.
        name: Its name in messages.

    Raises:
        ArchiveError: It does.
    """
    for library, operation in _TARGETS.findall(content):
        if library not in _LIBRARIES or re.fullmatch(_UNUSUAL_NAMES, operation):
            raise unsafe(f"{shown(name)} uses the operation {shown(operation.decode())}")
    for expression in _EXPRESSIONS.findall(content):
        if _NO_ARITHMETIC.search(expression):
            text = expression.decode(errors="replace")
            raise unsafe(f"{shown(name)} gives a size as the expression {shown(text)}")

"""Which of our modules import which, as their source says; also what is imported in a function."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("service", "workers")


@cache
def modules() -> dict[str, Path]:
    """The file of each module, by name."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports() -> frozenset[tuple[str, str]]:
    """Pairs of modules of which the first imports the second."""
    return frozenset(
        (importer, imported)
        for importer, path in modules().items()
        for name in _names(path)
        if (imported := _module_of(name)) is not None and imported != importer
    )


def _names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _module_of(name: str) -> str | None:
    """The module that a dotted name is, or is in; None if it is none of ours."""
    while name and name not in modules():
        name = name.rpartition(".")[0]
    return name or None


def package_of(module: str) -> str:
    """The package that a module is in; a module at the root of `service` or `workers` is alone."""
    if modules()[module].name == "__init__.py":
        return module
    parent = module.rpartition(".")[0]
    return module if parent in PACKAGES else parent


def is_in(module: str, *rooms: str) -> bool:
    """Whether a module is one of these, or in one of these packages."""
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def circle(arrows: set[tuple[str, str]]) -> list[str]:
    """Nodes each of which points to the next, and the last to the first; none if there are none."""
    graph: dict[str, set[str]] = {}
    for source, target in arrows:
        graph.setdefault(source, set()).add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []

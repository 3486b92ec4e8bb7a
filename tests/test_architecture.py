import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import import_graph
import pytest
from import_graph import is_in

ROOT = Path(__file__).parents[1]


def imports(package: str) -> Iterator[tuple[Path, str]]:
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                yield path, node.module


def offenders(package: str, *forbidden: str) -> list[tuple[Path, str]]:
    return [(path, name) for path, name in imports(package) if name.split(".")[0] in forbidden]


def test_service_knows_neither_torch_nor_workers() -> None:
    assert offenders("service", "torch", "workers") == []


# The rule's constants: what applies them is numerics, what explains them is the report's cards.
_RULE = "service.contract.rule"


def test_diagnostics_are_pure_numerics() -> None:
    foreign = [
        (path, name)
        for path, name in imports("workers/diagnostics")
        if name.split(".")[0] in {"service", "workers", "os", "io", "pathlib"}
        and not name.startswith("workers.diagnostics")
        and name != _RULE
    ]
    assert foreign == []


def test_the_rules_constants_import_the_standard_library_alone() -> None:
    path = f"{_RULE.replace('.', '/')}.py"
    found = {
        name.split(".")[0] for where, name in imports("service/contract") if where == ROOT / path
    }
    assert found
    assert found <= sys.stdlib_module_names


def test_every_failure_says_what_to_do() -> None:
    silent = [
        (path, node.lineno)
        for package in ("service", "workers")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"JobError", "Failure"}
        and not any(word.arg == "hint" and not _is_none(word.value) for word in node.keywords)
    ]
    assert silent == []


def _is_none(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def test_a_slice_uses_another_ones_service_and_never_its_repository() -> None:
    foreign = [
        (path, name)
        for path, name in imports("service")
        if name.endswith(".repository") and path.parent.name not in name
    ]
    assert foreign == []


# From the ground up: a room imports only from those before it. The longest name counts, so that
# `extraction` is what lies at the root of that package beside its rooms. `service` and `workers`
# themselves hold the version, and nothing.
FLOORS = {
    "service": [
        "contract",
        "platform",
        "tables",
        "report",
        "http",
        "usage",
        "security",
        "operations",
        "models",
        "probes",
        "inspections",
        "analyses",
        "charts",
        "guide",
        "app",
        "client",
        "local",
        "commands",
        "cli",
        "__main__",
    ],
    "workers": [
        "protocol",
        "diagnostics",
        "probes.containers",
        "probes.tables",
        "probes",
        "extraction.refusals",
        "extraction.trace",
        "extraction.head.kinds",
        "extraction.head.rules",
        "extraction.head",
        "extraction.fit",
        "extraction.loading",
        "extraction",
        "extraction.layers",
        "inspection",
        "analysis.inputs",
        "analysis",
        "child.walls",
        "child",
        "jobs",
        "runner",
        "supervision.kinds",
        "supervision",
        "commands",
        "__main__",
    ],
}


@pytest.mark.parametrize("house", FLOORS)
def test_each_room_imports_only_from_those_below(house: str) -> None:
    floors = [f"{house}.{room}" for room in FLOORS[house]]
    assert set(floors) <= import_graph.modules().keys()

    def floor_of(module: str) -> int:
        return floors.index(max((f for f in floors if is_in(module, f)), key=len))

    upward = [
        (importer, imported)
        for importer, imported in import_graph.imports()
        if importer.startswith(f"{house}.")
        and imported.startswith(f"{house}.")
        and floor_of(importer) < floor_of(imported)
    ]
    assert upward == []


def test_packages_import_each_other_in_no_circle() -> None:
    arrows = {
        (import_graph.package_of(importer), import_graph.package_of(imported))
        for importer, imported in import_graph.imports()
    }
    assert import_graph.circle({(a, b) for a, b in arrows if a != b}) == []


def test_a_circle_is_found() -> None:
    assert import_graph.circle({("a", "b"), ("b", "c")}) == []
    assert set(import_graph.circle({("a", "b"), ("b", "c"), ("c", "b")})) == {"b", "c"}


CHILD = ["child", "jobs", "analysis", "inspection", "extraction", "probes", "diagnostics"]


@pytest.mark.parametrize(
    ("rooms", "package", "allowed"),
    [
        (["commands"], "service", ["contract", "tables", "platform", "report", "client"]),
        (["__main__", "supervision"], "service", ["contract", "tables", "platform", "report"]),
        (["protocol", "runner", *CHILD], "service", ["contract"]),
        (["protocol"], "workers", ["protocol"]),
        (["runner"], "workers", ["protocol", "runner"]),
        (["supervision"], "workers", ["protocol", "runner", "supervision"]),
        (CHILD, "workers", ["protocol", *CHILD]),
    ],
)
def test_each_process_has_only_what_is_its_own(
    rooms: list[str], package: str, allowed: list[str]
) -> None:
    """The child has nothing of what supervises it, which has nothing of what runs models."""
    foreign = [
        (importer, imported)
        for importer, imported in import_graph.imports()
        if is_in(importer, *(f"workers.{room}" for room in rooms))
        and is_in(imported, package)
        and not is_in(imported, *(f"{package}.{room}" for room in allowed))
        # Anyone may know the version.
        and imported != "service"
    ]
    assert foreign == []


def test_supervision_and_runner_hold_no_torch() -> None:
    for room in ("supervision", "runner"):
        assert offenders(f"workers/{room}", "torch") == []


@pytest.mark.parametrize("module", ["service.app", "service.cli", "workers.__main__"])
def test_processes_that_serve_and_supervise_hold_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_process_that_opens_uploads_holds_no_database_and_no_web_server() -> None:
    """The less is in its memory, the less there is to misuse, and the sooner it is there.

    Nor does it hold the report's schema, and the cards that the guide shows, which come with it.
    """
    code = (
        "import sys, workers.child.warm_parent, workers.jobs; sys.exit(', '.join("
        "{'sqlalchemy', 'psycopg', 'fastapi', 'starlette', 'celery', 'redis', 'obstore', 'httpx',"
        " 'service.report', 'service.platform', 'service.tables', 'workers.supervision'}"
        " & sys.modules.keys()) or None)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.stderr == ""


def test_files_can_be_held_in_the_head() -> None:
    long = {
        str(path.relative_to(ROOT)): length
        for package in ("service", "workers", "migrations")
        for path in (ROOT / package).rglob("*.py")
        if (length := len(path.read_text().splitlines())) > 420
    }
    assert long == {}

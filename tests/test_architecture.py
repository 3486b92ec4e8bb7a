import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("module", ["service.app", "service.cli", "workers.__main__"])
def test_processes_that_serve_and_supervise_hold_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_process_that_opens_uploads_holds_no_database_and_no_web_server() -> None:
    """The less is in its memory, the less there is to misuse, and the sooner it is there."""
    code = (
        "import sys, workers.child.zygote, workers.jobs; sys.exit(', '.join("
        "{'sqlalchemy', 'psycopg', 'fastapi', 'starlette', 'celery', 'redis', 'obstore', 'httpx'}"
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

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import Digits, Stack, flattening, npz

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()

with_the_shared_stack = pytest.mark.xdist_group("stack")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_two_commands_are_one_line_each() -> None:
    setups = [block.strip() for block in blocks("sh") if "-m venv" in block]
    assert len(setups) == 2
    assert all("\n" not in line for line in setups)
    assert setups[0].endswith("phiscope demo")
    assert setups[1].endswith("pytest")


def test_the_demo_shows_one_network_turn_minimal_and_the_twin_stay_extended() -> None:
    # What the first command runs once it has set up.
    ended = subprocess.run(
        [sys.executable, "-m", "service", "demo"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    rows = re.findall(r"^(cnn|lazy twin) +(\d+) +(\w+)", ended.stdout, re.MULTILINE)
    regimes = {(run, int(step)): regime for run, step, regime in rows}
    assert regimes["cnn", 0] == "EF"
    assert regimes["cnn", 16] == "MF"
    assert {regime for (run, _), regime in regimes.items() if run == "lazy twin"} == {"EF"}
    assert "Where to look next" in ended.stdout


def run(line: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of curl."""
    return subprocess.run(
        ["bash", "-c", line.replace("curl ", "curl -sS --fail-with-body ", 1)],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )


@with_the_shared_stack
def test_the_curl_commands_work_as_they_stand(stack: Stack, tmp_path: Path, digits: Digits) -> None:
    x, y = digits
    (tmp_path / "model.pt").write_bytes(flattening())
    (tmp_path / "probe.npz").write_bytes(npz(x=x.reshape(-1, 8, 8), y=y))
    (block,) = [block for block in blocks("sh") if "curl" in block]
    commands = [line for line in block.splitlines() if line.startswith("curl")]
    ids: dict[str, str] = {}
    outputs = []
    for command in commands:
        line = command.replace("localhost:8000", stack.url)
        for placeholder, value in ids.items():
            line = line.replace(placeholder, value)
        ended = run(line, tmp_path)
        # It waits no longer than a minute, which is not enough for every machine.
        while "?wait=" in line and '"finished_at":null' in ended.stdout:
            ended = run(line, tmp_path)
        assert ended.returncode == 0, (line, ended.stdout, ended.stderr)
        outputs.append(ended.stdout)
        if match := re.search(r'"id":"([^"]+)"', ended.stdout):
            kind = {"models": "MODEL ID", "analyses": "ANALYSIS ID"}
            for path, placeholder in kind.items():
                if command.endswith(f"/v1/{path}"):
                    ids[placeholder] = match[1]
    assert '"regime"' in outputs[-2]
    assert "</svg>" in (tmp_path / "verdict.svg").read_text()


@with_the_shared_stack
def test_the_python_example_works_as_it_stands(
    stack: Stack,
    tmp_path: Path,
    digits: Digits,
) -> None:
    x, y = digits
    (tmp_path / "model.pt").write_bytes(flattening())
    (tmp_path / "probe.npz").write_bytes(npz(x=x.reshape(-1, 8, 8), y=y))
    (example,) = blocks("python")
    ended = subprocess.run(
        [sys.executable, "-c", example.replace("http://localhost:8000", stack.url)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split()[0] in {"MF", "EF", "undetermined"}

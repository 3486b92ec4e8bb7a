"""The API does what its description says, whatever it is asked."""

import subprocess
import sys
from pathlib import Path

from support import served_api

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


def test_answers_are_as_described_to_whatever_is_asked(tmp_path: Path) -> None:
    """Its databases are its own: what other tests leave there would be found, and is no report."""
    program = Path(sys.executable).with_name("schemathesis")
    options = [
        *("--seed", "1", "--max-examples", "10", "--no-color"),
        # A stream of events ends when its analysis does.
        *("--exclude-path-regex", "/events$"),
    ]
    with served_api(tmp_path) as api:
        run = subprocess.run(
            [program, "--config-file", CONFIGURATION, "run", f"{api.url}/openapi.json", *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert run.returncode == 0, run.stdout + run.stderr

"""Holds local databases open for a test: prints where they are, then waits to be ended.

python hold.py DATA_DIR
"""

import json
import sys
from contextlib import suppress
from pathlib import Path

from service.local import LocalDatabases, LocalError, Supervisor, unwind_on_termination


def main(data_dir: Path) -> None:
    """Start the databases, say so on standard output in one line of JSON, and wait."""
    # `wait` makes an interrupt an ordinary end; suppressing covers one that comes earlier.
    try:
        with (
            suppress(KeyboardInterrupt),
            unwind_on_termination(),
            LocalDatabases(data_dir) as databases,
            Supervisor() as supervisor,
        ):
            supervisor.keep(*databases.children)
            where = {
                "database_url": databases.database_url,
                "broker_url": databases.broker_url,
                "pids": [child.pid for child in databases.children],
            }
            print(json.dumps(where), flush=True)  # noqa: T201 - the test reads it
            supervisor.wait()
    except LocalError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Holds a local stack open for a test: prints where it is, then waits to be ended.

python hold.py DATA_DIR
"""

import json
import sys
from contextlib import suppress
from pathlib import Path

from service.local import LocalStack, LocalStackError, Supervisor, unwind_on_termination


def main(data_dir: Path) -> None:
    """Start the stack, say so on standard output in one line of JSON, and wait."""
    # `wait` makes an interrupt an ordinary end; suppressing covers one that comes earlier.
    try:
        with (
            suppress(KeyboardInterrupt),
            unwind_on_termination(),
            LocalStack(data_dir) as stack,
            Supervisor() as supervisor,
        ):
            supervisor.keep(*stack.children)
            where = {
                "database_url": stack.database_url,
                "broker_url": stack.broker_url,
                "pids": [child.pid for child in stack.children],
            }
            print(json.dumps(where), flush=True)  # noqa: T201 - the test reads it
            supervisor.wait()
    except LocalStackError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

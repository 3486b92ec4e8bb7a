"""`python -m tests.chaos --minutes 15`: the long form, all faults in random order."""

import argparse
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

# The modules that tests share are found from here, as pytest's `pythonpath` has it.
sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.chaos.faults import FAULTS, LINK_FAULTS
from tests.chaos.run import run

_ROUND = 7


def _rounds(chance: random.Random) -> Iterator[list[str]]:
    """Faults for one `run` each; in the long run, each comes as often as any other."""
    while True:
        rounds = []
        for faults in (FAULTS, LINK_FAULTS):
            order = chance.sample(list(faults), len(faults))
            rounds += [order[start : start + _ROUND] for start in range(0, len(order), _ROUND)]
        yield from chance.sample(rounds, len(rounds))


def main() -> None:
    """Print what came of each round, as long as there is time."""
    # A process in the background ignores Ctrl-C, and `up`, which it starts, would do so too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chance, ends = random.Random(given.seed), time.monotonic() + 60 * given.minutes
    for faults in _rounds(chance):
        if time.monotonic() > ends:
            break
        seed = chance.randrange(1 << 32)
        with tempfile.TemporaryDirectory(prefix="phiscope-chaos-") as directory:
            # `up` gives up root's rights, and the child has few.
            Path(directory).chmod(0o755)
            outcome = run(Path(directory), faults, seed=seed, most_seconds=120)
        print(  # noqa: T201 - it is what the command is for
            f"seed {seed}: {', '.join(faults)}: {outcome.jobs} jobs, all ended well and once, the "
            f"last {outcome.last_seconds:.1f} s after the last fault; by attempts "
            f"{dict(outcome.attempts)}; asked again {dict(outcome.refusals)}",
            flush=True,
        )


if __name__ == "__main__":
    main()

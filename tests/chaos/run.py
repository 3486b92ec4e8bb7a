"""Faults one after another while analyses are asked for, and a look at what is left."""

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.faults import FAULTS, LINK_FAULTS
from tests.chaos.jobs import Customer
from tests.chaos.product import running

# How long a part is stopped, cut off or read-only.
_LASTING_SECONDS = (1.0, 5.0)
_JOBS_BEFORE, _JOBS_AFTER = 3, 2
_SEEDS = 5


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        jobs: Analyses that were accepted, all of which have ended well and once.
        faults: How often each fault came.
        attempts: How many analyses took so many attempts.
        refusals: Requests that had to be sent again, by why.
        last_seconds: How long after the last fault the last analysis ended.
    """

    jobs: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    last_seconds: float = 0.0


def run(directory: Path, faults: Sequence[str], *, seed: int, most_seconds: float) -> Outcome:
    """Bring about some faults, and make sure that nothing is lost.

    Args:
        directory: Where the stack keeps its data.
        faults: Which, in order; all of them of `FAULTS`, or all of `LINK_FAULTS`.
        seed: Of how long each lasts.
        most_seconds: How long after the last of them all analyses have ended.

    Raises:
        AssertionError: Something is lost, stuck, done twice or different.
    """
    chance = random.Random(seed)
    outcome = Outcome()
    known = LINK_FAULTS if faults[0] in LINK_FAULTS else FAULTS
    with running(directory, linked=known is LINK_FAULTS) as product, product.http() as http:
        customer = Customer(product, http)
        # What each report is to be.
        for each in range(_SEEDS):
            customer.start(each)
        customer.wait(600)
        customer.check()
        for name in faults:
            for _ in range(_JOBS_BEFORE):
                customer.start(chance.randrange(_SEEDS))
            known[name](product, chance.uniform(*_LASTING_SECONDS))
            outcome.faults[name] += 1
            for _ in range(_JOBS_AFTER):
                customer.start(chance.randrange(_SEEDS))
        ended = time.monotonic()
        customer.wait(most_seconds)
        outcome.last_seconds = time.monotonic() - ended
        outcome.attempts = customer.check()
        outcome.jobs, outcome.refusals = len(customer.asked), customer.refusals
        product.stop()
    return outcome

"""The short form: the faults that lost something once, one after another."""

from pathlib import Path

import pytest

from tests.chaos.run import run

FAULTS = [
    "postmaster killed",
    "database read-only",
    "broker lost its data",
    "broker hung",
    "broker a replica",
    "disk full",
    "all ended",
]
LINK_FAULTS = ["link to the database silent", "link to the broker cut"]


@pytest.mark.parametrize("faults", [FAULTS, LINK_FAULTS], ids=["parts", "links"])
def test_nothing_is_lost_whatever_fails(tmp_path: Path, faults: list[str]) -> None:
    outcome = run(tmp_path, faults, seed=0, most_seconds=300)
    assert outcome.faults.total() == len(faults)
    # No worker vanished, so nobody had to wait for a lease to expire.
    assert set(outcome.attempts) == {"1"}

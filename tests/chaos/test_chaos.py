"""The short form: the faults that lost something once, one after another."""

from pathlib import Path

from tests.chaos.run import run

FAULTS = [
    "postmaster killed",
    "database read-only",
    "broker lost its data",
    "broker hung",
    "broker a replica",
    "database connections cut",
]


def test_nothing_is_lost_whatever_fails(tmp_path: Path) -> None:
    outcome = run(tmp_path, FAULTS, seed=0, most_seconds=300)
    assert outcome.faults.total() == len(FAULTS)
    # No worker vanished, so nobody had to wait for a lease to expire.
    assert set(outcome.attempts) == {"1"}

"""What an operator is told of a job, beside what its owner is."""

from typing import Any, cast
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from service.failures import Failure, FailureCode
from service.jobs.tables import JobKind
from service.settings import Settings
from workers.executor import Executor
from workers.leases import Lease
from workers.runner.outcome import Failed, SecurityEvent

FAILURE = Failure(code=FailureCode.CRASHED, message="It crashed.")


DIGESTS = {"model": "a" * 64, "probe": "b" * 64}


class Digested:
    """Work, as far as it is reported."""

    digests = DIGESTS


def reported(outcome: Failed) -> list[Any]:
    nothing = cast("Any", None)
    executor = Executor(Settings(), nothing, nothing, nothing, "worker")
    lease = Lease(job_id=uuid4(), kind=JobKind.ANALYSIS, subject_id=uuid4(), attempt=1)
    with capture_logs() as logs:
        executor._report(lease, cast("Any", Digested()), outcome)
    return [entry for entry in logs if entry["event"] == "security event"]


@pytest.mark.parametrize("what", SecurityEvent)
def test_a_security_event_names_the_files(what: SecurityEvent) -> None:
    (entry,) = reported(Failed(FAILURE, "", None, what))
    assert entry["log_level"] == "error"
    assert entry["what"] == what
    assert entry["files"] == DIGESTS
    assert entry["kind"] == "analysis"


def test_an_ordinary_failure_is_no_security_event() -> None:
    assert reported(Failed(FAILURE, "", None)) == []

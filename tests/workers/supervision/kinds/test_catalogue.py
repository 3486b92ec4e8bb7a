from service.tables.jobs import JobKind
from workers.supervision.kinds.catalogue import KINDS


def test_every_kind_of_job_can_be_carried_out() -> None:
    assert set(KINDS) == set(JobKind)

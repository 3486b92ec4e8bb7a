"""What becomes of every archive, as rows."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from workers.protocol.errors import JobError
from zoo.case import FRESH_ROWS, Case
from zoo.catalogue import CASES
from zoo.interface import explore


@dataclass(frozen=True)
class Row:
    """One archive; the residual is the largest of two batches, `None` if it was refused."""

    family: str
    archive: str
    outcome: str
    residual: float | None


def rows(cases: Iterable[Case] = CASES) -> Iterator[Row]:
    """Opens one archive after the other."""
    for case in cases:
        try:
            yield Row(case.family, case.name, "accepted", _residual(case))
        except JobError as error:
            detail = error.failure.detail.get("code", "")
            yield Row(case.family, case.name, f"{error.failure.code} / {detail}", None)


def _residual(case: Case) -> float:
    extractor = explore(case)
    extractor.run(case.batch(FRESH_ROWS))
    return extractor.residual

"""A report is right, or the analysis is refused with a hint that, followed literally, makes it so.

Nothing may be silently wrong. Answers to a question may raise the next one, of the labels after the
inputs, say.
"""

from typing import Any

import pytest
from analysed import analysed
from giving import specs_in

from borders.cases import Case, case
from service.contract.failures import FailureCode
from workers.protocol.errors import JobError

CASES = 540
_AT_ONCE = 20
_ROUNDS = 3
_OWNERS = {FailureCode.INPUT_MISMATCH, FailureCode.PROBE_UNREADABLE}


def outcomes(drawn: Case, spec: dict[str, Any], rounds: int = _ROUNDS) -> list[list[str]]:
    """The faults of each report that one comes to by following every hint."""
    try:
        return [drawn.faults(analysed(drawn.archive, drawn.arrays, spec=spec))]
    except JobError as error:
        failure = error.failure
    assert failure.code in _OWNERS, (drawn.what, failure)
    answers = [answer for answer in specs_in(failure.hint) if answer]
    assert answers, (drawn.what, failure)
    assert rounds, (drawn.what, failure)
    return [
        faults for answer in answers for faults in outcomes(drawn, {**spec, **answer}, rounds - 1)
    ]


@pytest.mark.parametrize("first", range(0, CASES, _AT_ONCE))
def test_a_report_is_right_or_what_is_missing_is_asked_for(first: int) -> None:
    for number in range(first, first + _AT_ONCE):
        drawn = case(number)
        faults = outcomes(drawn, {})
        asked = len(faults) > 1
        if asked:
            # Of the answers that were offered one is right, and the others are not what was meant.
            assert [] in faults, (drawn.what, faults)
        else:
            assert faults == [[]], (drawn.what, faults)

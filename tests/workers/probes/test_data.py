"""Every kind of file that the guide tells of: read right, or refused with an answer that helps."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from service.contract.failures import FailureCode
from service.contract.probe_spec import ProbeSpec
from tests.workers.probes.data import CASES
from tests.workers.probes.data.case import Case
from workers.probes.probe import inspect_probe, load_probe
from workers.probes.targets import ModelView
from workers.protocol.arguments import ProbeLimits
from workers.protocol.errors import JobError


def check(case: Case, spec: Mapping[str, Any]) -> None:
    content = case.make()
    summary = inspect_probe(io.BytesIO(content), ProbeSpec.model_validate(spec), ProbeLimits())
    said = summary.spec.model_dump(mode="json")
    assert {key: said.get(key) for key in case.written} == case.written
    # What is written back reads the same again, as every analysis does.
    probe = load_probe(io.BytesIO(content), summary.spec, ProbeLimits())
    assert probe.spec == summary.spec
    stored = next(iter(probe.stored.values()))
    assert case.x is not None
    assert stored.shape == case.x.shape
    assert stored.tolist() == case.x.tolist()
    if case.y is None:
        assert probe.targets is None
    else:
        if probe.targets is None:  # names of classes wait for a model with as many outputs
            probe = probe.settled(ModelView(int(case.y.max()) + 1))
        assert probe.targets is not None
        assert probe.targets.values.reshape(case.y.shape).tolist() == case.y.tolist()


@pytest.mark.parametrize("case", [case for case in CASES if case.refused is None], ids=str)
def test_it_is_read_as_it_was_written(case: Case) -> None:
    check(case, case.spec)


@pytest.mark.parametrize("case", [case for case in CASES if case.refused is not None], ids=str)
def test_it_is_refused_with_an_answer_that_helps(case: Case) -> None:
    spec = ProbeSpec.model_validate(case.spec)
    with pytest.raises(JobError) as caught:
        inspect_probe(io.BytesIO(case.make()), spec, ProbeLimits())
    failure = caught.value.failure
    assert failure.code == FailureCode.PROBE_UNREADABLE
    assert case.refused is not None
    assert case.refused in failure.message
    assert case.hint in (failure.hint or "")
    if case.answer is not None:
        check(case, {**case.spec, **case.answer})


def test_numbers_are_compared_with_something() -> None:
    assert all(np.unique(case.x).size > 2 for case in CASES if case.x is not None)

"""Every model of the zoo, opened as an archive, against what its own modules say."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from zoo import CASES, Accepted, Case, Refused, Truth
from zoo.case import DISCOVERY_ROWS, FRESH_ROWS, NO_LINK, UNVERIFIED
from zoo.interface import explore, load
from zoo.table import rows
from zoo.tails import LINKS

from service.contract.options import FeatureMapChoice
from service.guide.families import PRECISIONS
from workers.extraction import Extractor, discover
from workers.protocol.errors import JobError

NAMES = [case.name for case in CASES]
ACCEPTED = {case.name: case for case in CASES if isinstance(case.expected, Accepted)}
ASKING = {"no_linear_head", "multiple_heads", "nonlinear_pool", "ambiguous_output"}
ADVISED = [
    case.name
    for case in CASES
    if isinstance(case.expected, Refused)
    and case.expected.detail in ASKING
    and not case.expected.choice
    and case.way in {"scripted", "exported"}
    # Its halves have a layer each, so none has a row for every sample.
    and not case.name.startswith("partsofotherheads")
]
REFUSED = {case.name: case for case in CASES if isinstance(case.expected, Refused)}


def test_no_case_hides_another() -> None:
    assert len(set(NAMES)) == len(NAMES)


def test_importing_the_zoo_says_nothing_and_builds_nothing() -> None:
    code = "import zoo.__main__; assert not any('archive' in vars(case) for case in zoo.CASES)"
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout + ended.stderr == ""


def test_the_table_tells_what_becomes_of_an_archive() -> None:
    names = ("headed-scripted", "constant-scripted")
    accepted, refused = rows(case for case in CASES if case.name in names)
    assert (accepted.family, accepted.outcome) == ("mlp", "accepted")
    assert accepted.residual is not None
    assert accepted.residual < PRECISIONS["float32"]
    assert (refused.outcome, refused.residual) == ("head_not_found / no_linear_head", None)


def assert_near(found: Tensor, expected: Tensor, precision: str) -> None:
    """Every element, up to the tolerance times the largest one."""
    limit = PRECISIONS[precision]
    found, expected = found.detach().double(), expected.detach().double()
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(found, expected, rtol=0, atol=limit * scale)


@pytest.mark.parametrize("name", ACCEPTED)
def test_finds_what_the_models_author_knows(name: str) -> None:
    case = ACCEPTED[name]
    expected = case.expected
    check_ground_truth(case)
    extractor = explore(case)
    for given in (case.batch(DISCOVERY_ROWS), case.batch(FRESH_ROWS)):
        truth = case.truth(given)
        extracted = extractor.run(given)
        assert extracted.positions == expected.positions
        assert_near(extracted.phi, truth.phi, expected.precision)
        assert_near(extracted.outputs, truth.outputs, expected.precision)
        check_feature_map(extractor, expected, truth)


def check_feature_map(extractor: Extractor, expected: Accepted, truth: Truth) -> None:
    found = extractor.feature_map
    if expected.link == NO_LINK:
        assert (found.W, found.b, extractor.residual) == (None, None, None)
    else:
        check_head(extractor, expected, truth)
    assert (found.outputs, found.p) == truth.weight.shape
    assert (found.link, found.verified) == (
        expected.link,
        expected.link not in {UNVERIFIED, NO_LINK},
    )
    assert found.kind == expected.kind
    codes = tuple(warning.split(":")[0] for warning in found.warnings)
    assert codes in (expected.warnings, expected.warnings + expected.later)


def check_head(extractor: Extractor, expected: Accepted, truth: Truth) -> None:
    found = extractor.feature_map
    assert_near(found.W, truth.weight, expected.precision)
    bias = torch.zeros(len(truth.weight)) if truth.bias is None else truth.bias
    assert_near(torch.zeros(len(found.W)) if found.b is None else found.b, bias, expected.precision)
    assert extractor.residual <= PRECISIONS[expected.precision]


def check_ground_truth(case: Case) -> None:
    """The zoo's own claim: Φ Wᵀ + b is u, and the link makes of u what the model answers."""
    expected = case.expected
    batch = case.batch(FRESH_ROWS)
    truth = case.truth(batch)
    bias = 0.0 if truth.bias is None else truth.bias
    assert_near(truth.phi @ truth.weight.T + bias, truth.outputs, expected.precision)
    assert len(truth.phi) == FRESH_ROWS * expected.positions
    if expected.link not in {UNVERIFIED, NO_LINK}:
        answer = case.answer(batch).reshape(truth.outputs.shape)
        outputs = truth.outputs
        linked = outputs if expected.link == "identity" else LINKS[expected.link](outputs)
        assert_near(linked, answer, expected.precision)


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_with_both_codes_and_says_why(name: str) -> None:
    case = REFUSED[name]
    with pytest.raises(JobError) as caught:
        explore(case)
    failure = caught.value.failure
    assert (failure.code, failure.detail["code"]) == (case.expected.code, case.expected.detail)
    assert any(word in failure.message.lower() for word in case.expected.says), failure.message
    assert failure.hint


@pytest.mark.parametrize("name", ADVISED)
def test_a_choice_that_a_hint_names_is_accepted(name: str) -> None:
    case = REFUSED[name]
    with pytest.raises(JobError) as caught:
        explore(case)
    choices = re.findall(r"options.feature_map = (\{.*?\})", caught.value.failure.hint or "")
    assert choices or case.model.__class__.__name__ in {"NoLayer", "Constant"}
    for choice in choices:
        declared = FeatureMapChoice(**json.loads(choice))
        extractor = discover(load(case.archive), case.batch(DISCOVERY_ROWS), declared)
        assert len(extractor.run(case.batch(FRESH_ROWS)).phi) % FRESH_ROWS == 0

"""Every report is what it was, figure by figure.

Where a change of a figure is meant, `python -m tests.golden` writes the reports anew, and the
commit says why.
"""

from itertools import islice
from typing import Any

import pytest
import torch

from tests.golden.cases import CASES, Case
from tests.golden.reports import REPORTS, differences, read
from workers.diagnostics.spectra import FEW_FEATURES

_SHOWN = 25


@pytest.mark.parametrize("name", CASES)
def test_report_is_what_it_was(name: str) -> None:
    kept, report = read(name), CASES[name]().report()
    nearly = kept["feature_map"]["p"] > FEW_FEATURES
    found = list(islice(differences(kept, report, nearly=nearly), _SHOWN))
    assert not found, "\n".join([f"{name}: the report is not what it was.", *found])


def test_every_report_has_a_case() -> None:
    assert {path.stem for path in REPORTS.iterdir()} == set(CASES)


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_models_compute_without_rounding(name: str) -> None:
    case: Case = CASES[name]()
    model, x = case.model.eval(), torch.from_numpy(case.probe["x"])
    if not case.exact:
        assert (x.dtype, next(model.parameters()).dtype) == (torch.float64, torch.float64)
        return
    single = model(x)
    assert single.dtype == torch.float32
    assert torch.equal(single.double(), model.double()(x.double()))


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"features_alone"}))
@torch.inference_mode()
def test_no_class_hangs_on_rounding(name: str) -> None:
    case = CASES[name]()
    first, second = (
        case.model.eval()(torch.from_numpy(case.probe["x"])).topk(2, dim=1).values.unbind(1)
    )
    assert bool((first > second).all())


KEPT = {"a": {"trace": 2.0, "list": [1e6, 1.0]}, "b": {"output_error": 0.0}, "n": 3, "t": ["x"]}


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ({"a": {"trace": 2.0 + 5e-12, "list": [1e6, 1.0]}}, "a.trace"),
        ({"a": {"trace": 2.0, "list": [1e6, 1.0 + 2e-6]}}, "a.list[1]"),
        ({"a": {"trace": 2.0, "list": [1e6]}}, "a.list"),
        ({"a": {"trace": None, "list": [1e6, 1.0]}}, "a.trace"),
        ({"b": {"output_error": 2e-6}}, "b.output_error"),
        ({"n": 3.0}, "n"),
        ({"t": ["y"]}, "t[0]"),
        ({"more": 1}, "more"),
    ],
)
def test_what_differs_is_told(changed: dict[str, Any], path: str) -> None:
    (told,) = differences(KEPT, KEPT | changed)
    assert told.startswith(f"{path}: ")


@pytest.mark.parametrize(
    "changed",
    [
        {"a": {"trace": 2.0 + 1e-12, "list": [1e6, 1.0 + 5e-7]}},
        {"b": {"output_error": 5e-7}},
    ],
)
def test_rounding_is_no_difference(changed: dict[str, Any]) -> None:
    assert not list(differences(KEPT, KEPT | changed))


def test_intervals_have_a_tolerance_of_their_own() -> None:
    kept, near, far = (
        {"confidence_interval": {"rank": [0.5, bound]}} for bound in (1.0, 1.0 + 1e-10, 1.01)
    )
    assert not list(differences(kept, near))
    assert list(differences(kept, far)) == ["confidence_interval.rank[1]: kept 1.0, found 1.01"]

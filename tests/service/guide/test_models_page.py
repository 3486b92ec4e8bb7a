"""The page on which models work, against the archives that were tried."""

import re
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from torch import nn
from zoo import CASES, Refused
from zoo.interface import load
from zoo.saving import quiet

from service.guide.families import FAMILIES, PRECISIONS, Outcome
from service.guide.generated import models
from service.guide.routes import render
from workers.extraction import discover
from workers.extraction.trace.consistency import supported, tolerance


def test_every_archive_belongs_to_a_row_that_says_what_becomes_of_it() -> None:
    outcomes = defaultdict(set)
    codes = defaultdict(set)
    for case in CASES:
        outcomes[case.family].add(case.expected.outcome)
        if isinstance(case.expected, Refused):
            codes[case.family].add((case.expected.code, case.expected.detail))
    # Without their choice, models that need one are refused.
    unchosen = {Outcome.CHOICE: {Outcome.CHOICE, Outcome.REFUSED}}
    assert outcomes == {
        key: unchosen.get(family.outcome, {family.outcome}) for key, family in FAMILIES.items()
    }
    assert codes == {key: set(family.codes) for key, family in FAMILIES.items() if family.codes}


def test_the_page_shows_every_row_with_its_codes_and_every_precision() -> None:
    page = render("models")
    for family in FAMILIES.values():
        assert family.title.split("`")[0].split(",")[0] in page
        assert all(f"<code>{detail}</code>" in page for _, detail in family.codes)
    assert all(f"<td>{precision}</td>" in page for precision in PRECISIONS)


def test_the_limits_are_those_that_are_applied() -> None:
    dtypes = {name: getattr(torch, name.replace("int8", "qint8")) for name in PRECISIONS}
    assert all(supported(dtype) for dtype in dtypes.values())
    assert {name: tolerance(dtype) for name, dtype in dtypes.items()} == PRECISIONS


@pytest.mark.parametrize("place", range(3))
def test_a_model_saved_as_the_page_says_is_read(
    place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(.*?)```", models(), re.DOTALL)[place]
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 5))
    with quiet():
        exec(code, {"torch": torch, "model": model, "example": torch.randn(2, 12)})  # noqa: S102 - the page's code is what is tested
    (archive,) = tmp_path.iterdir()
    extractor = discover(load(archive.read_bytes()), (torch.randn(16, 12),))
    assert extractor.run((torch.randn(37, 12),)).phi.shape == (37, 16)

"""The examples in docstrings give what they say."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUNNING_EXAMPLE = re.compile(r">>> (?!.*doctest: \+SKIP)")
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("service", "workers")
    for path in sorted((ROOT / package).rglob("*.py"))
    if RUNNING_EXAMPLE.search(path.read_text())
]


@pytest.mark.parametrize("module", MODULES)
def test_examples_give_what_they_say(module: str) -> None:
    results = doctest.testmod(importlib.import_module(module))
    assert results.attempted > 0
    assert results.failed == 0

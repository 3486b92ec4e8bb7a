"""The page on which data works, against the files that were tried."""

from collections import Counter

from borders.inputs import KINDS

from service.contract.probe_spec import FORMATS, ProbeSpec
from service.guide.data import DATA_KINDS, INPUT_KINDS
from service.guide.routes import render
from tests.workers.probes.data import CASES


def test_every_row_has_files_and_every_file_a_row() -> None:
    assert {case.kind for case in CASES} == set(DATA_KINDS)


def test_a_row_that_asks_was_asked_and_one_that_reads_was_read() -> None:
    refused = Counter(case.kind for case in CASES if case.refused is not None)
    read = Counter(case.kind for case in CASES if case.x is not None)
    for key, kind in DATA_KINDS.items():
        assert refused[key] > 0 or not kind.asked or kind.asked.startswith("As "), key
        assert read[key] > 0 or kind.read.startswith("None "), key


def test_the_page_shows_every_row_and_every_format_is_among_them() -> None:
    page = render("data")
    for kind in DATA_KINDS.values():
        assert kind.title.split("`")[0] in page
    assert {case.written["format"] for case in CASES if "format" in case.written} == set(FORMATS)


def test_every_kind_of_input_is_tried_on_models_and_shown() -> None:
    assert set(INPUT_KINDS) == set(KINDS)
    page = render("data")
    assert all(kind.title.split(":")[0] in page for kind in INPUT_KINDS.values())


def test_a_key_that_the_page_names_is_one_of_the_spec() -> None:
    asked = " ".join(kind.asked for kind in DATA_KINDS.values())
    named = {part for part in asked.split("`")[1::2] if part.isidentifier()}
    assert named <= set(ProbeSpec.model_fields)

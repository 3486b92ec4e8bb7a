import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.protocol.text import printable, without_paths


@given(st.text(st.characters()), st.integers(1, 50))
def test_anything_becomes_storable_and_short(text: str, most: int) -> None:
    shown = printable(text, most)
    shown.encode()
    assert len(shown) <= most
    assert all(character.isprintable() or character in "\n\t" for character in shown)


def test_escapes_are_readable() -> None:
    assert printable("é\x1b[31m\0\ud800\u202e\n", 100) == "é\\x1b[31m\\x00\\ud800\\u202e\n"
    assert printable("abcdef", 4) == "abc…"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("open '/srv/models/a.pt' failed", "open 'a.pt' failed"),
        ("raised at /a/b/c.cpp:12", "raised at c.cpp:12"),
        ("3/4 of images/second", "3/4 of images/second"),
    ],
)
def test_paths_lose_their_directories(text: str, shown: str) -> None:
    assert without_paths(text) == shown

"""A part of a file reads as if it were a file."""

import io

from hypothesis import given
from hypothesis import strategies as st

from service.contract.archives.part import Part

SEEKS = st.tuples(st.integers(-20, 40), st.sampled_from([io.SEEK_SET, io.SEEK_CUR, io.SEEK_END]))


@given(st.binary(max_size=40), st.integers(0, 40), st.integers(0, 40), st.lists(SEEKS), st.data())
def test_it_reads_as_its_bytes_do(
    content: bytes, start: int, size: int, seeks: list[tuple[int, int]], data: st.DataObject
) -> None:
    own = content[start : start + size]
    part = io.BufferedReader(Part(io.BytesIO(content), start, len(own)))
    expected = io.BytesIO(own)
    for offset, whence in seeks:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: expected.tell(), io.SEEK_END: len(own)}[whence]
        place = max(0, origin + offset)
        assert part.seek(place) == expected.seek(place)
        count = data.draw(st.integers(0, 50))
        assert part.read(count) == expected.read(count)
    assert part.seek(0, io.SEEK_END) == len(own)

import hashlib
import io
import tarfile

import pytest

from service.http.bundles import by_name, pack
from service.http.problems import InvalidRequest


def test_a_tar_depends_on_names_and_contents_alone() -> None:
    files = [("b/2.csv", io.BytesIO(b"two")), ("a.csv", io.BytesIO(b"one"))]
    digests = set()
    for order in (files, files[::-1]):
        with pack(by_name(order)) as packed:
            packed.seek(0)
            digests.add(hashlib.sha256(packed.read()).hexdigest())
    assert len(digests) == 1


def test_it_is_a_tar_that_others_read() -> None:
    long = "ä" * 120 + ".npy"
    with pack(by_name([("a\\b.csv", io.BytesIO(b"one")), (long, io.BytesIO(b"two"))])) as packed:
        packed.seek(0)
        with tarfile.open(fileobj=packed) as archive:
            found = {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]  # files all
    assert found == {"a/b.csv": b"one", long: b"two"}


@pytest.mark.parametrize(
    "name", ["", None, "/etc/passwd", "../up.csv", "a/../../b", "x" * 300, "."]
)
def test_names_that_are_none_are_refused(name: str | None) -> None:
    with pytest.raises(InvalidRequest, match="needs a name of its own"):
        by_name([(name, io.BytesIO(b"one")), ("other", io.BytesIO(b"two"))])


def test_the_same_name_twice_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="Two files are named 'a'"):
        by_name([("a", io.BytesIO(b"one")), ("./a", io.BytesIO(b"two"))])

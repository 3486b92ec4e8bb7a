"""Blobs on disk, and in a store that is reached as object stores are."""

import io
import os
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest

from service.platform.storage import BlobDamagedError, BlobMissingError, BlobStore

CONTENT = b"what was stored"
SHA256 = sha256(CONTENT).hexdigest()


@pytest.fixture(params=["disk", "objects"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path.as_uri() if request.param == "disk" else "memory:///")


def blob(directory: Path) -> Path:
    return directory / "sha256" / SHA256[:2] / SHA256


def files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def test_what_was_put_is_there(store: BlobStore) -> None:
    store.put(SHA256, io.BytesIO(CONTENT))
    with store.open_whole(SHA256) as file:
        assert file.read() == CONTENT
    ((digest, size, _),) = store.list(SHA256[:2])
    assert (digest, size) == (SHA256, len(CONTENT))


def test_what_was_never_put_is_missing(store: BlobStore) -> None:
    with pytest.raises(BlobMissingError):
        store.open_whole(SHA256)


def test_a_file_is_kept_under_no_digest_but_its_own(store: BlobStore) -> None:
    with pytest.raises(ValueError, match=f"SHA-256 {SHA256}; expected {'0' * 64}"):
        store.put("0" * 64, io.BytesIO(CONTENT))
    assert list(store.list("00")) == []


def test_what_is_not_kept_leaves_nothing(store: BlobStore, tmp_path: Path) -> None:
    with store.incoming() as incoming:
        incoming.write(CONTENT)
        assert (incoming.sha256, incoming.size_bytes) == (SHA256, len(CONTENT))
    assert files(tmp_path) == []
    assert list(store.list(SHA256[:2])) == []


@pytest.mark.parametrize("there", [b"", CONTENT[:-1], CONTENT[:-1] + b"D", None])
def test_the_same_bytes_mend_a_blob(tmp_path: Path, there: bytes | None) -> None:
    store = BlobStore(tmp_path.as_uri())
    store.put(SHA256, io.BytesIO(CONTENT))
    if there is None:
        blob(tmp_path).unlink()
    else:
        blob(tmp_path).write_bytes(there)
    with pytest.raises(BlobDamagedError):
        store.open_whole(SHA256)
    store.put(SHA256, io.BytesIO(CONTENT))
    assert blob(tmp_path).read_bytes() == CONTENT
    assert files(tmp_path) == [blob(tmp_path)]


def test_a_blob_that_the_disk_does_not_give_back_is_damaged(tmp_path: Path) -> None:
    """Reading the beginning of a process's memory fails as reading a bad sector does."""
    blob(tmp_path).parent.mkdir(parents=True)
    blob(tmp_path).symlink_to("/proc/self/mem")
    with pytest.raises(BlobDamagedError, match="cannot be read"):
        BlobStore(tmp_path.as_uri()).open_whole(SHA256)


def test_whoever_reads_a_blob_while_it_is_stored_again_reads_it_to_its_end(tmp_path: Path) -> None:
    store = BlobStore(tmp_path.as_uri())
    store.put(SHA256, io.BytesIO(CONTENT))
    with store.open_whole(SHA256) as file:
        store.put(SHA256, io.BytesIO(CONTENT))
        assert file.read() == CONTENT


_KILLED = """
import os, sys
from service.platform.storage import BlobStore
with BlobStore(sys.argv[1]).incoming() as incoming:
    incoming.write(b"half")
    incoming.file.flush()
    os._exit(9)
"""


def test_what_a_killed_process_left_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _KILLED, tmp_path.as_uri()], check=False)
    (left,) = files(tmp_path)
    store = BlobStore(tmp_path.as_uri())
    with store.incoming() as incoming:
        incoming.write(CONTENT)
        assert store.remove_left_behind() == 1
        assert not left.exists()
        store.keep(incoming)
    assert files(tmp_path) == [blob(tmp_path)]
    assert store.remove_left_behind() == 0


def test_what_earlier_versions_left_goes_once_it_is_old(tmp_path: Path) -> None:
    store = BlobStore(tmp_path.as_uri())
    store.put(SHA256, io.BytesIO(CONTENT))
    left = blob(tmp_path).with_name(f"{SHA256}#1")
    left.write_bytes(b"half")
    assert store.remove_left_behind() == 0
    long_ago = time.time() - 25 * 3600
    os.utime(left, (long_ago, long_ago))
    os.utime(blob(tmp_path), (long_ago, long_ago))
    assert store.remove_left_behind() == 1
    assert files(tmp_path) == [blob(tmp_path)]

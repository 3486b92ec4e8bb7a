import io
import os
import subprocess
import sys
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from service.local import LocalDatabases
from service.platform.database import new_id
from service.platform.migration import upgrade
from service.platform.storage import BlobStore
from service.tables.analyses import Analysis, Artifact
from service.tables.models import Model
from service.tables.probes import Probe, ProbeStatus

WHOLE, DAMAGED, MISSING, OF_BOTH, ORPHANED, FRESH, DELETED = (
    sha256(bytes([k])).hexdigest() for k in range(7)
)
CONTENTS = {sha256(bytes([k])).hexdigest(): bytes([k]) for k in range(7)}
MODELS = {digest: new_id() for digest in (WHOLE, DAMAGED, OF_BOTH, DELETED)}
PROBE, ANALYSIS = new_id(), new_id()


def model(digest: str) -> Model:
    return Model(
        id=MODELS[digest],
        name="\x1b[2Jresnet",
        sha256=digest,
        size_bytes=1,
        format="torchscript",
        metadata_={},
        deleted_at=datetime.now(UTC) if digest == DELETED else None,
    )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with its own database, which is down."""
    directory = tmp_path_factory.mktemp("checked") / "data"
    probe = Probe(
        id=PROBE, name="digits", version=1, sha256=MISSING, spec={}, status=ProbeStatus.READY
    )
    analysis = Analysis(
        id=ANALYSIS,
        model_id=MODELS[WHOLE],
        probe_id=PROBE,
        options={},
        priority="normal",
        progress={},
        fingerprint="0",
    )
    artifact = Artifact(
        analysis_id=ANALYSIS, name="a.csv", media_type="text/csv", sha256=OF_BOTH, size_bytes=1
    )
    with LocalDatabases(directory) as local:
        engine = create_engine(local.database_url)
        upgrade(engine)
        with Session(engine) as session, session.begin():
            for row in (*map(model, MODELS), probe, analysis, artifact):
                session.add(row)
                session.flush()
        engine.dispose()
    return directory


@pytest.fixture
def store(data_dir: Path) -> BlobStore:
    """All that is referred to is there, and nothing else."""
    store = BlobStore((data_dir / "blobs").as_uri())
    for digest, content in CONTENTS.items():
        store.put(digest, io.BytesIO(content))
    for digest in (ORPHANED, FRESH, DELETED):
        store.delete(digest)
    return store


def blob(data_dir: Path, digest: str) -> Path:
    return data_dir / "blobs" / "sha256" / digest[:2] / digest


def check(data_dir: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if "PHISCOPE" not in name}
    return subprocess.run(
        [sys.executable, "-m", "service", "check-store", "--data-dir", str(data_dir)],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.usefixtures("store")
def test_of_a_store_that_is_whole_nothing_is_said(data_dir: Path) -> None:
    checked = check(data_dir)
    assert (checked.returncode, checked.stdout) == (0, "")
    assert "0 damaged, 0 missing, 0 orphaned" in checked.stderr


def test_each_file_that_is_damaged_missing_or_orphaned_is_a_line(
    data_dir: Path, store: BlobStore
) -> None:
    blob(data_dir, DAMAGED).write_bytes(b"x")
    blob(data_dir, OF_BOTH).write_bytes(b"")
    store.delete(MISSING)
    for digest in (ORPHANED, FRESH, DELETED):
        store.put(digest, io.BytesIO(CONTENTS[digest]))
    for digest in (ORPHANED, DELETED, WHOLE):
        os.utime(blob(data_dir, digest), (0, 0))
    left = data_dir / "blobs" / "incoming" / "left"
    left.write_bytes(b"half")
    checked = check(data_dir)
    artifact = f'artifact of analysis {ANALYSIS} "a.csv"'
    named = '"\\u001b[2Jresnet"'
    assert checked.returncode == 1
    assert sorted(checked.stdout.splitlines()) == sorted(
        [
            f"damaged  {DAMAGED}  model {MODELS[DAMAGED]} {named}",
            f"damaged  {OF_BOTH}  model {MODELS[OF_BOTH]} {named}, {artifact}",
            f'missing  {MISSING}  probe {PROBE} "digits"',
            f"orphaned  {ORPHANED}  1 bytes",
            f"orphaned  {DELETED}  1 bytes",
        ]
    )
    assert "2 damaged, 1 missing, 2 orphaned; 1 unfinished removed" in checked.stderr
    assert not left.exists()
    # It only looks.
    assert blob(data_dir, DAMAGED).read_bytes() == b"x"
    assert blob(data_dir, ORPHANED).exists()


def test_a_database_that_is_named_is_asked(data_dir: Path, store: BlobStore) -> None:
    store.delete(WHOLE)
    with LocalDatabases(data_dir) as local:
        checked = check(data_dir, PHISCOPE_DATABASE_URL=local.database_url)
    assert checked.returncode == 1
    assert [line.split()[:2] for line in checked.stdout.splitlines()] == [["missing", WHOLE]]


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, "holds no database"),
        (
            {"PHISCOPE_DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/none"},
            "The database does not answer",
        ),
    ],
)
def test_what_is_not_there_is_said(tmp_path: Path, environment: dict[str, str], says: str) -> None:
    checked = check(tmp_path, **environment)
    assert checked.returncode == 1
    assert says in checked.stderr
    assert "Traceback" not in checked.stderr

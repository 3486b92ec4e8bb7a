"""Analyses that are asked for whatever happens, and what is made sure of in the end."""

import time
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import Any

import httpx
from sqlalchemy import create_engine, func, select, true
from sqlalchemy.orm import Session
from support import flattening

from service.platform.storage import BlobStore
from service.tables.analyses import Analysis
from service.tables.jobs import Job, JobState
from service.usage.blobs import needed
from tests.chaos.faults import urls_of
from tests.chaos.product import Product

# Of a report, what is another one's although its figures are the same.
_OF_ITS_OWN = {"analysis_id", "created_at", "provenance", "artifacts"}
_ENDED = {"succeeded", "failed", "cancelled"}
_PAUSE_SECONDS = 0.2
# Try again; the disk is full.
_LATER = {httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.INSUFFICIENT_STORAGE}


@dataclass
class Asked:
    """An analysis that was accepted.

    Attributes:
        id: Its id.
        seed: Which decides its figures.
    """

    id: str
    seed: int


class Customer:
    """Somebody who asks again, with the same key, until there is an answer.

    Attributes:
        asked: The analyses that were accepted.
        refusals: How often there was no answer yet, by why.
    """

    def __init__(self, product: Product, http: httpx.Client) -> None:
        self._product = product
        self._http = http
        self.asked: list[Asked] = []
        self.refusals: Counter[str] = Counter()
        self._reports: dict[int, Any] = {}
        binary = {"Content-Type": "application/octet-stream"}
        self._model = self._ask(
            "POST", "/v1/models?name=chaos", content=flattening(), headers=binary
        )["id"]

    def start(self, seed: int) -> None:
        """Ask for an analysis; the same seed gives the same figures, each time in a new one."""
        body = {
            "model": self._model,
            "probe": "builtin:digits",
            # More eigenfunctions beside the report make it another request.
            "options": {"seed": seed, "top_k": 1 + len(self.asked) % 4096},
        }
        key = {"Idempotency-Key": uuid.uuid4().hex}
        found = self._ask("POST", "/v1/analyses", json=body, headers=key)
        self.asked.append(Asked(found["id"], seed))

    def wait(self, most_seconds: float) -> float:
        """Wait until all have ended; return for how long.

        Raises:
            AssertionError: Some have not after so many seconds.
        """
        began, left = time.monotonic(), list(self.asked)
        while left:
            left = [each for each in left if self._status(each)["status"] not in _ENDED]
            waited = time.monotonic() - began
            assert waited < most_seconds, f"{len(left)} have not ended after {waited:.0f} s"
            time.sleep(_PAUSE_SECONDS if left else 0)
        return time.monotonic() - began

    def check(self) -> Counter[str]:
        """Make sure that each ended once, and well, with the report it would have anyway.

        Returns:
            How many took so many attempts.
        """
        attempts: Counter[str] = Counter()
        for each in self.asked:
            found = self._status(each)
            assert found["status"] == "succeeded", found["error"]
            attempts[f"{found['attempts']}"] += 1
            report = self._ask("GET", f"/v1/analyses/{each.id}/report")
            figures = {name: part for name, part in report.items() if name not in _OF_ITS_OWN}
            assert figures == self._reports.setdefault(each.seed, figures)
        self._check_rows()
        return attempts

    def _check_rows(self) -> None:
        engine = create_engine(urls_of(self._product)[0])
        ids = [uuid.UUID(each.id) for each in self.asked]
        with Session(engine) as session:
            assert session.scalar(select(func.count()).where(Job.state != JobState.DONE)) == 0
            jobs = session.scalars(select(Job.subject_id).where(Job.subject_id.in_(ids))).all()
            rows = session.scalar(select(func.count()).where(Analysis.id.in_(ids)))
            referred = {row[0] for row in session.execute(needed(lambda _: true()))}
        engine.dispose()
        assert sorted(jobs) == sorted(set(ids))
        assert rows == len(set(ids)) == len(self.asked)
        # No row without its bytes, no bytes without a row, and all of them whole.
        store = BlobStore((self._product.data_dir / "blobs").as_uri())
        stored = {blob.sha256 for start in range(256) for blob in store.list(f"{start:02x}")}
        assert stored == referred
        for sha256 in stored:
            store.open_whole(sha256).close()

    def _status(self, each: Asked) -> Any:
        return self._ask("GET", f"/v1/analyses/{each.id}")

    def _ask(self, method: str, path: str, **how: Any) -> Any:
        """Ask until the API answers; it may be away, and say so, but nothing else."""
        while True:
            try:
                answer = self._http.request(method, path, **how)
            except httpx.TransportError as error:
                self._refused(type(error).__name__)
                continue
            if answer.is_success:
                return answer.json()
            assert answer.status_code in _LATER, answer.text
            self._refused(answer.json()["code"])

    def _refused(self, how: str) -> None:
        self.refusals[how] += 1
        time.sleep(_PAUSE_SECONDS)

"""A client of the API in a few lines, for scripts and pipelines. Needs no torch."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import httpx

Document = dict[str, Any]

_TIMEOUT = httpx.Timeout(30.0, read=90.0, write=300.0)
_WAIT_SECONDS = 30


class ApiError(Exception):
    """The API answered with a problem.

    Attributes:
        status: The HTTP status.
        problem: The problem document (RFC 9457); `problem["code"]` is for programs.
    """

    def __init__(self, status: int, problem: Document) -> None:
        super().__init__(f"{status} {problem.get('title', '')}: {problem.get('detail', '')}")
        self.status = status
        self.problem = problem


class AnalysisFailedError(Exception):
    """An analysis ended without a report.

    Attributes:
        analysis: Its last state; `analysis["error"]` says why.
    """

    def __init__(self, analysis: Document) -> None:
        error = analysis.get("error") or {"code": analysis["status"], "message": ""}
        super().__init__(f"{error['code']}: {error['message']}")
        self.analysis = analysis


class Client:
    """Talks to one Phiscope.

    Example:
        >>> with Client("http://localhost:8000") as phiscope:  # doctest: +SKIP
        ...     model = phiscope.upload_model(Path("model.pt"), name="resnet")
        ...     report = phiscope.analyse(model["id"], "builtin:digits")
        ...     print(report["verdict"]["regime"])
    """

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=_TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.close()

    def upload_model(
        self,
        file: Path | BinaryIO,
        *,
        name: str,
        run: str | None = None,
        step: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Document:
        """Upload a model archive; the same one again gives the model that exists.

        Raises:
            ApiError: It was refused.
        """
        fields = {"name": name, "run": run, "step": step}
        if metadata is not None:
            fields["metadata"] = json.dumps(metadata)
        return self._send_file("/v1/models", file, fields)

    def register_probe(
        self,
        file: Path | BinaryIO | Sequence[Path],
        *,
        name: str,
        spec: Mapping[str, Any] | None = None,
    ) -> Document:
        """Upload a reference dataset as the next version of its name.

        Args:
            file: The file; or several that are one probe, such as `x.npy` and `y.npy`, or the
                shards of a table.
            name: Its name.
            spec: How it is read, where that does not follow from the file.

        Raises:
            ApiError: It was refused.
        """
        fields = {"name": name, "spec": json.dumps(spec or {})}
        return self._send_file("/v1/probes", file, fields)

    def inspect(
        self, model: str, inputs: Sequence[str] = (), *, probe: str | None = None
    ) -> Document:
        """Show what a model takes and returns, and which of its layers is the head, and why.

        Args:
            model: Its id.
            inputs: What one sample of each input looks like, as `3x32x32` or `128:int64`, where
                that cannot be found out.
            probe: Take that from this probe instead.

        Returns:
            The inspection, once it has ended: `findings`, or the `error` of one that failed.

        Raises:
            ApiError: It was refused.
        """
        query = {"wait": str(_WAIT_SECONDS), "input": list(inputs)}
        if probe is not None:
            query["probe"] = probe
        while True:
            path = f"/v1/models/{model}/inspection"
            inspection = self._json(self._http.get(path, params=query))
            if inspection["finished_at"] is not None:
                return inspection

    def start(self, model: str, probe: str, options: Mapping[str, Any] | None = None) -> Document:
        """Start an analysis and return it without waiting.

        Raises:
            ApiError: It was refused.
        """
        body = {"model": model, "probe": probe, "options": dict(options or {})}
        return self._json(self._http.post("/v1/analyses", json=body))

    def follow(self, analysis_id: str) -> Iterator[Document]:
        """Yield an analysis at each change, until it has ended.

        Raises:
            ApiError: There is none of this id.
        """
        with self._http.stream("GET", f"/v1/analyses/{analysis_id}/events") as response:
            if not response.is_success:
                response.read()
            self._check(response)
            for line in response.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line.removeprefix("data:"))

    def wait(self, analysis_id: str) -> Document:
        """Return an analysis once it has ended.

        Raises:
            ApiError: There is none of this id.
        """
        while True:
            analysis = self.get(f"/v1/analyses/{analysis_id}?wait={_WAIT_SECONDS}")
            if analysis["finished_at"] is not None:
                return analysis

    def report(self, analysis_id: str) -> Document:
        """Return the report of an analysis that succeeded.

        Raises:
            ApiError: There is none.
        """
        return self.get(f"/v1/analyses/{analysis_id}/report")

    def chart(self, analysis_id: str, name: str) -> str:
        """Return a picture of a report, as SVG; `/v1/analyses/{id}/charts` lists what there is.

        Raises:
            ApiError: There is none.
        """
        response = self._http.get(f"/v1/analyses/{analysis_id}/charts/{name}.svg")
        self._check(response)
        return response.text

    def analyse(self, model: str, probe: str, options: Mapping[str, Any] | None = None) -> Document:
        """Start an analysis, wait for it, and return its report.

        Args:
            model: Id of the model.
            probe: Id, name or name@version of the probe.
            options: As in the API: `{"eval_probe": "digits-test"}` adds figures on a second probe.

        Raises:
            ApiError: It was refused.
            AnalysisFailedError: It ended without a report.
        """
        analysis = self.wait(self.start(model, probe, options)["id"])
        if analysis["status"] != "succeeded":
            raise AnalysisFailedError(analysis)
        return self.report(analysis["id"])

    def quarantines(self) -> Iterator[Document]:
        """Yield the files that no job opens, those quarantined last first.

        Raises:
            ApiError: It was refused.
        """
        cursor: str | None = None
        while True:
            query = {} if cursor is None else {"cursor": cursor}
            page = self._json(self._http.get("/v1/quarantines", params=query))
            yield from page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def release(self, sha256: str) -> None:
        """Let jobs open a quarantined file again.

        Raises:
            ApiError: It is not quarantined.
        """
        self._check(self._http.delete(f"/v1/quarantines/{sha256}"))

    def get(self, path: str) -> Document:
        """Return the document at a path.

        Raises:
            ApiError: There is none.
        """
        return self._json(self._http.get(path))

    def _send_file(
        self, path: str, file: Path | BinaryIO | Sequence[Path], fields: Mapping[str, Any]
    ) -> Document:
        given = {name: str(value) for name, value in fields.items() if value is not None}
        with ExitStack() as opened:
            files = [opened.enter_context(_opened(each)) for each in _listed(file)]
            parts = [("file", each) for each in files]
            return self._json(self._http.post(path, data=given, files=parts))

    def _json(self, response: httpx.Response) -> Document:
        self._check(response)
        document: Document = response.json()
        return document

    @staticmethod
    def _check(response: httpx.Response) -> None:
        if response.is_success:
            return
        try:
            problem = response.json()
        except ValueError:
            problem = {"title": response.reason_phrase, "detail": response.text[:500]}
        raise ApiError(response.status_code, problem)


def _listed(file: Path | BinaryIO | Sequence[Path]) -> Sequence[Path | BinaryIO]:
    return file if isinstance(file, Sequence) else [file]


@contextmanager
def _opened(file: Path | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(file, Path):
        with file.open("rb") as opened:
            yield opened
    else:
        yield file

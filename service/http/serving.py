"""How the application is served."""

import asyncio
import resource
import time

import h11
import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.http.problems import BadRequest, document_of

log = structlog.get_logger()

_GRACE_SECONDS = 5
# From the first byte of a request, or the connection's begin, to the end of its headers.
_HEAD_SECONDS = 15.0
# Without a byte of a body that is to come, and that we are ready to read.
_BODY_SECONDS = 60.0

_MOST_FILES = 1 << 16
_MOST_CONNECTIONS = 1 << 14
# For databases, stored files, and whatever else is open beside connections.
_OTHER_FILES = 256
# Of what may come a thousand times a second one line is enough.
_LOGGED_EVERY_SECONDS = 10.0


class _Protocol(H11Protocol):
    """Bounds what connections can take, and refuses in our words what is no HTTP.

    A connection that is not made use of is a file that others lack: of those that come too slowly,
    or are too many, nothing is kept.
    """

    most_connections = _MOST_CONNECTIONS
    _refused = 0
    _refusals_logged_at = float("-inf")
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take a connection, or close it where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            self._note_refusal()
            transport.abort()
            return
        self._wait(_HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take some bytes, and see what is still to come."""
        super().data_received(data)
        if self._awaits_body:
            self._wait(_BODY_SECONDS)
        elif not self._awaits_head:
            self._stop_waiting()
        elif self._deadline is None:
            self._wait(_HEAD_SECONDS)

    def on_response_complete(self) -> None:
        """Wait for the next request; uvicorn closes a connection that is idle then."""
        self._stop_waiting()
        super().on_response_complete()

    @property
    def _awaits_head(self) -> bool:
        return self.conn.their_state is h11.IDLE

    @property
    def _awaits_body(self) -> bool:
        return self.conn.their_state is h11.SEND_BODY

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        if self._awaits_body and self.flow.read_paused:
            self._wait(_BODY_SECONDS)  # it is we who are slow
            return
        self.transport.abort()

    @classmethod
    def _note_refusal(cls) -> None:
        _Protocol._refused += 1
        now = time.monotonic()
        if now - cls._refusals_logged_at > _LOGGED_EVERY_SECONDS:
            log.warning("too many connections", limit=cls.most_connections, refused=cls._refused)
            _Protocol._refused, _Protocol._refusals_logged_at = 0, now

    def send_400_response(self, msg: str) -> None:
        """Say that it is no request, unless an answer to an earlier one is being written."""
        is_answering = bool(self.cycle) and not self.cycle.response_complete
        if not is_answering:
            problem = BadRequest(f"{msg} Expected a request as HTTP/1.1 writes it.")
            body = document_of(problem).model_dump_json(exclude_none=True).encode()
            self.transport.write(
                b"HTTP/1.1 400 Bad Request\r\n"
                b"Content-Type: application/problem+json\r\n"
                b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
            )
        self.transport.close()


def _count_connections() -> int:
    """Let this process open as many files as it may, and return how many connections that is for.

    An upload takes a file beside its connection.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft == resource.RLIM_INFINITY or soft >= most:
        most = _MOST_FILES if soft == resource.RLIM_INFINITY else soft
    else:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return min(_MOST_CONNECTIONS, max(1, (most - _OTHER_FILES) // 2))


def configured(app: ASGIApp) -> uvicorn.Config:
    """Return the server's settings, the same wherever it is started."""
    _Protocol.most_connections = _count_connections()
    return uvicorn.Config(
        app,
        http=_Protocol,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )

"""How the application is served."""

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.http.problems import BadRequest, document_of

_GRACE_SECONDS = 5


class _Protocol(H11Protocol):
    """Refuses in our words what is no HTTP, which never reaches the application."""

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


def configured(app: ASGIApp) -> uvicorn.Config:
    """Return the server's settings, the same wherever it is started."""
    return uvicorn.Config(
        app,
        http=_Protocol,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )

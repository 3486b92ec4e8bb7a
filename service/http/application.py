"""An application whose errors are all problem documents, and that answers HEAD like GET."""

from typing import Any

import anyio
from fastapi import FastAPI, Request
from starlette.datastructures import Headers
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http import problems


class Application(FastAPI):
    """FastAPI, with what it lacks around it."""

    def build_middleware_stack(self) -> ASGIApp:
        """Put ours outside of FastAPI's own, which answers by itself at times."""
        return _HeadLikeGet(_NoPlainErrors(super().build_middleware_stack()))

    def openapi(self) -> dict[str, Any]:
        """Describe errors as they are sent."""
        if self.openapi_schema is None:
            problems.describe(super().openapi())
        assert self.openapi_schema is not None  # noqa: S101 - FastAPI keeps it
        return self.openapi_schema


class _NoPlainErrors:
    """Makes problems of what the framework refuses in plain text, before our handlers are asked.

    That is a `Host` that is not ours, and a body whose `Content-Length` is over the limit.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_replaced = False

        async def send_problem(message: Message) -> None:
            nonlocal is_replaced
            if message["type"] == "http.response.start" and _is_plain(message):
                request = Request(scope)
                problem = _problem(request, message["status"])
                if problem is not None:
                    is_replaced = True
                    await problems.rendered(request, problem)(scope, receive, send)
            if not is_replaced:
                await send(message)

        await self._app(scope, receive, send_problem)


def _is_plain(start: Message) -> bool:
    return Headers(raw=start["headers"]).get("content-type", "").startswith("text/plain")


def _problem(request: Request, status: int) -> problems.Problem | None:
    if status == problems.TooLarge.status:
        return problems.too_large(request.scope.get(MAX_BODY_SIZE_SCOPE_KEY))
    # Hosts are checked before there is a router; what static files refuse comes after.
    if status == problems.UnknownHost.status and "router" not in request.scope:
        host = request.headers.get("host", "")
        return problems.UnknownHost(
            f"Host is {host[:255]!r}; expected a name of this API. The operator's setting "
            "PHISCOPE_ALLOWED_HOSTS says which those are."
        )
    return None


class _HeadLikeGet:
    """Answers HEAD with what GET would, but for the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        with anyio.CancelScope() as answering:

            async def send_head(message: Message) -> None:
                if message["type"] != "http.response.body":
                    await send(message)
                    return
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                # Nobody waits for the rest of a file, or for events to come.
                if message.get("more_body", False):
                    answering.cancel()

            await self._app({**scope, "method": "GET"}, receive, send_head)

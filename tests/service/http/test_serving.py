"""Connections that come to nothing take nothing from the others."""

import asyncio
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from service.http import serving

SOON = 0.3


async def count(request: Request) -> PlainTextResponse:
    """Read the body, slowly if that is asked for, and say how long it is."""
    length = 0
    async for chunk in request.stream():
        await asyncio.sleep(float(request.query_params.get("sleep", 0)))
        length += len(chunk)
    return PlainTextResponse(str(length))


Connect = Callable[[], socket.socket]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """Opens connections to a server that soon loses its patience, and that takes four of them."""
    monkeypatch.setattr(serving, "_HEAD_SECONDS", SOON)
    monkeypatch.setattr(serving, "_BODY_SECONDS", SOON)
    config = serving.configured(Starlette(routes=[Route("/", count, methods=["GET", "POST"])]))
    monkeypatch.setattr(serving._Protocol, "most_connections", 4)
    monkeypatch.setattr(serving._Protocol, "_refusals_logged_at", float("-inf"))
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening, ExitStack() as opened:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()

        def one() -> socket.socket:
            made = opened.enter_context(socket.create_connection(listening.getsockname()))
            made.settimeout(60)
            return made

        yield one
        server.should_exit = True
        thread.join()


def answer(connection: socket.socket) -> bytes:
    """All that comes until the other side closes or resets the connection."""
    received = b""
    try:
        while piece := connection.recv(1 << 16):
            received += piece
    except ConnectionResetError:
        pass
    return received


def ask(connection: socket.socket, body: bytes = b"", path: str = "/") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    )
    connection.sendall(head.encode() + b"\r\n" + body)
    return answer(connection)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHo",
    ],
    ids=["nothing", "half a head", "half a body", "half a second request"],
)
def test_whoever_sends_no_more_is_cut_off(connect: Connect, sent: bytes) -> None:
    connection = connect()
    connection.sendall(sent)
    assert answer(connection).count(b"HTTP/1.1 200") == sent.count(b"\r\n\r\nGET")
    assert ask(connect()).endswith(b"0")


def test_a_head_that_trickles_in_is_cut_off(connect: Connect) -> None:
    connection = connect()

    def trickle() -> None:
        while True:
            connection.sendall(b"G")
            time.sleep(SOON / 10)

    with pytest.raises(OSError, match=r"reset|Broken pipe"):
        trickle()


def test_a_body_that_keeps_coming_is_taken(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long all of it takes."""
    monkeypatch.setattr(serving, "_BODY_SECONDS", 2.5)
    connection = connect()
    connection.sendall(
        b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 8\r\n\r\n"
    )
    for _ in range(8):
        time.sleep(0.4)
        connection.sendall(b"x")
    assert answer(connection).endswith(b"8")


def test_a_client_does_not_pay_for_a_slow_server(connect: Connect) -> None:
    body = b"x" * (1 << 20)
    assert ask(connect(), body, f"/?sleep={SOON / 2}").endswith(str(len(body)).encode())


def test_more_connections_than_there_are_files_for_are_refused(connect: Connect) -> None:
    with capture_logs() as logs:
        taken = [connect() for _ in range(4)]
        refused = [answer(connect()) for _ in range(5)]
    assert refused == [b""] * 5
    assert [line["event"] for line in logs].count("too many connections") == 1
    assert ask(taken[0]).endswith(b"0")


def test_there_are_files_for_all_connections_that_are_taken() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))
        most = serving._count_connections()
        assert 0 < 2 * most <= resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

"""Proxies on loopback that can delay, hold back, cut or refuse connections to a unix socket."""

import asyncio
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_CHUNK_BYTES = 64 * 1024
_LOOK_SECONDS = 0.05


class Link:
    """A port on loopback whose connections lead to a unix socket.

    Attributes:
        port: Where it listens.
        delay: How many seconds each piece is held back, in both directions.
        is_silent: Whether nothing passes, though connections stay open.
        is_closed: Whether new connections end at once.
    """

    def __init__(self, socket: Path) -> None:
        self.port = 0
        self.delay = 0.0
        self.is_silent = False
        self.is_closed = False
        self._socket = socket
        self._open: set[asyncio.StreamWriter] = set()
        self._listens = threading.Event()
        self._ends = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        self._listens.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.is_silent = False
        self._loop.call_soon_threadsafe(self._ends.set)
        self._thread.join()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = int(server.sockets[0].getsockname()[1])
        self._listens.set()
        async with server:
            await self._ends.wait()
        while self._open:
            self._abort()
            await asyncio.sleep(_LOOK_SECONDS)

    def cut(self) -> None:
        """Break all connections at once."""
        self._loop.call_soon_threadsafe(self._abort)

    def _abort(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_closed:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_unix_connection(self._socket)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._open |= ends
        await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        self._open -= ends

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(_CHUNK_BYTES):
                await asyncio.sleep(self.delay)
                while self.is_silent:  # noqa: ASYNC110 - another thread sets it
                    await asyncio.sleep(_LOOK_SECONDS)
                writer.write(piece)
                await writer.drain()
        writer.close()

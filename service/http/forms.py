"""Reading `multipart/form-data` so that an uploaded file is written once, where it is to stay."""

from collections.abc import AsyncGenerator, Callable

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartParser

from service.platform.incoming import CHUNK_BYTES, Incoming


class Sink:
    """Writes what arrives by the mebibyte, because each write changes to another thread and back.

    Args:
        incoming: The file it writes.
    """

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming
        self._held: list[bytes] = []
        self._held_bytes = 0

    async def write(self, piece: bytes) -> None:
        """Take a piece."""
        self._held.append(piece)
        self._held_bytes += len(piece)
        if self._held_bytes >= CHUNK_BYTES:
            await self._flush()

    async def finish(self) -> None:
        """Write what is left, and rewind the file."""
        await self._flush()
        await run_in_threadpool(self._incoming.file.seek, 0)

    async def _flush(self) -> None:
        held, self._held, self._held_bytes = self._held, [], 0
        await run_in_threadpool(self._incoming.write, *held)


class IncomingPart(UploadFile):
    """A part of a form that is an incoming file."""

    def __init__(self, incoming: Incoming, filename: str | None, headers: Headers) -> None:
        super().__init__(incoming.file, size=0, filename=filename, headers=headers)
        self.incoming = incoming
        self._sink = Sink(incoming)

    async def write(self, data: bytes) -> None:
        """Take a piece, as it arrives."""
        await self._sink.write(data)

    async def seek(self, offset: int) -> None:
        """Rewind; the parser does so at the end of the part, and nobody else."""
        assert offset == 0  # noqa: S101 - see above
        await self._sink.finish()


class FormParser(MultiPartParser):
    """Starlette's parser, but for its first part `file`, which becomes an incoming file.

    Further files are held in memory or temporary files, as Starlette does: of many small ones none
    should take a descriptor, and they are packed into one later.
    """

    def __init__(
        self,
        headers: Headers,
        stream: AsyncGenerator[bytes, None],
        open_incoming: Callable[[], Incoming],
        *,
        max_files: int,
        max_fields: int,
    ) -> None:
        super().__init__(headers, stream, max_files=max_files, max_fields=max_fields)
        self._open_incoming = open_incoming

    def on_headers_finished(self) -> None:
        """Decide where the part that begins is written."""
        super().on_headers_finished()
        part = self._current_part
        if part.file is None or part.field_name != "file" or self._current_files > 1:
            return
        part.file = IncomingPart(self._open_incoming(), part.file.filename, part.file.headers)

"""Valkey as a child process: the message broker."""

from collections.abc import Sequence
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.local.processes import Child

# It answers in 50 ms, unless it has a long journal to read.
READY_SECONDS = 60.0


class Valkey(Child):
    """A Valkey server on a unix socket that keeps a journal of every write."""

    def __init__(
        self, program: Path, *, directory: Path, sockets: Path, log: Path, pass_fds: Sequence[int]
    ) -> None:
        """Describe the server without starting it.

        Args:
            program: `valkey-server`, or `redis-server`, which takes the same arguments.
            directory: Its data directory, which must exist.
            sockets: Directory of its socket, which only the owner may enter.
            log: File for its output.
            pass_fds: Open files it inherits.
        """
        self._socket = sockets / "valkey.sock"
        super().__init__(
            "Valkey",
            [
                str(program),
                *("--dir", str(directory)),
                *("--port", "0"),
                *("--unixsocket", str(self._socket)),
                *("--unixsocketperm", "700"),
                # The journal alone keeps the data, and every write is in it before the answer.
                # Its default puts writes off while an earlier one is synced to disk: kill -9
                # in such a moment loses messages that were acknowledged (seen to happen).
                # Snapshots, the other default, would lose minutes.
                *("--appendonly", "yes"),
                *("--appendfsync", "always"),
                *("--save", ""),
                *("--daemonize", "no"),
            ],
            log=log,
            pass_fds=pass_fds,
        )

    @property
    def url(self) -> str:
        """Celery's URL of the broker."""
        return f"redis+socket://{self._socket}?virtual_host=0"

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            LocalError: It does not come up.
        """
        super().start()
        # Our own loop asks again; the client's pauses would only slow it.
        with redis.Redis(unix_socket_path=str(self._socket), retry=Retry(NoBackoff(), 0)) as client:
            self.wait_ready(lambda: _answers(client), READY_SECONDS)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False

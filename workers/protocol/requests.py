"""What the supervisor asks of the warm parent, and what that answers.

One `SOCK_SEQPACKET` message asks for one job: a `Request` as JSON, and its file descriptors. The
last of them is the job's own socket. The supervisor half-closes it to have the job killed; the
warm parent answers on it, once, with an `Ended`. A supervisor that dies closes it too.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue, NonNegativeInt, PositiveInt

from workers.protocol.progress import ProgressWriter
from workers.protocol.result import JobResult

MAX_MESSAGE_BYTES = 1 << 16
"""Well below what a Unix socket takes in one packet."""

MAX_INPUTS = 8

READY = b"ready"
"""The warm parent's first message: torch is loaded, and it can fork."""

Device = Literal["cpu", "cuda"]

Job = Callable[[Mapping[str, JsonValue], Sequence[BinaryIO], ProgressWriter], JobResult]
"""Runs in the child: (arguments, input files, progress) → result. Raises JobError to fail."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class JobRequest(_Message):
    """One job.

    The thread count and the seed are part of it, because results differ bitwise between them.
    """

    kind: str = Field(description="A key of the job table.")
    warm_up: Literal["torch_export"] | None = Field(
        default=None,
        description="What the warm parent loads before it forks, if it has not yet.",
    )
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    device: Device = Field(
        default="cpu", description="`cuda`: the child gets a GPU, and a filter that lets it."
    )
    threads: PositiveInt = 1
    seed: NonNegativeInt = 0


class JobLimits(_Message):
    """What the kernel grants a child."""

    memory_bytes: PositiveInt = Field(
        default=4 << 30, description="What the job may allocate on top of the warm parent."
    )
    cpu_seconds: PositiveInt = Field(default=3600, description="Of all threads together.")
    result_bytes: PositiveInt = Field(default=1 << 30, description="The largest file it writes.")
    log_bytes: PositiveInt = Field(default=1 << 16, description="What is kept of its output.")
    stack_bytes: PositiveInt = 64 << 20
    landlock: Literal["require", "degrade"] = Field(
        default="require",
        description="Whether a child may run without Landlock where the kernel has none.",
    )
    open_files: PositiveInt = 64


class Request(_Message):
    """A job with its limits, as it is sent."""

    job: JobRequest
    limits: JobLimits


class Ended(_Message):
    """How a child's process ended; exactly one of `exit_code` and `signal` is set."""

    exit_code: int | None
    signal: int | None
    max_rss_bytes: int
    user_seconds: float
    system_seconds: float
    fork_seconds: float = Field(description="From the request's arrival to the running child.")
    wall_seconds: float = Field(description="From the fork to the end.")


class ChildFiles(NamedTuple):
    """The descriptors of one job, in the order they are sent."""

    inputs: tuple[int, ...]
    result: int
    log: int
    progress: int
    socket: int

    def in_order(self) -> list[int]:
        """Flat, as they are sent."""
        return [*self.inputs, self.result, self.log, self.progress, self.socket]

    @classmethod
    def from_order(cls, fds: Sequence[int]) -> "ChildFiles":
        """Return the inverse of `in_order`."""
        *inputs, result, log, progress, socket = fds
        return cls(tuple(inputs), result, log, progress, socket)


N_OWN_FILES = len(ChildFiles._fields) - 1
"""Those that every job has, beside its inputs."""

"""Every setting of the product, read from `PHISCOPE_*` environment variables."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


def default_data_dir() -> Path:
    """Return where an installation without settings keeps its data."""
    return Path.home() / ".local" / "share" / "phiscope"


class Settings(BaseSettings):
    """Settings shared by the API, the workers and the command line.

    A field `lease_seconds` is set by the environment variable `PHISCOPE_LEASE_SECONDS`.
    """

    model_config = SettingsConfigDict(env_prefix="PHISCOPE_", frozen=True)

    database_url: str | None = Field(
        default=None,
        description="PostgreSQL, as `postgresql+psycopg://user:password@host/database`. "
        "Without it, `phiscope up` starts its own.",
    )
    broker_url: str | None = Field(
        default=None,
        description="Redis or Valkey, as `redis://host:6379/0`. "
        "Without it, `phiscope up` starts its own.",
    )
    storage_url: str | None = Field(
        default=None,
        description="Where blobs are kept: `file:///path`, `s3://bucket/prefix`, "
        "`gs://bucket/prefix` or `az://container/prefix`. Default: `blobs` in the data directory.",
    )
    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Directory of the embedded databases, their logs and the blobs.",
    )
    allowed_hosts: Annotated[list[str], NoDecode] = Field(
        default=["localhost", "127.0.0.1", "[::1]"],
        description="Host headers that the API answers to, separated by commas; `*` for any. "
        "Guards an open loopback API against DNS rebinding.",
    )
    allow_unauthenticated: bool = Field(
        default=False,
        description="Let the API listen beyond loopback although it asks nobody for a key. "
        "Only behind something that does.",
    )
    max_model_bytes: int = Field(default=2 * GIB, gt=0, description="Largest model upload.")
    max_probe_bytes: int = Field(default=4 * GIB, gt=0, description="Largest probe upload.")
    probe_uris: Annotated[list[str], NoDecode] = Field(
        default=[],
        description="Prefixes of addresses from which probes may be registered, separated by "
        "commas, as `file:///srv/probes,s3://bucket/probes`; whole folders, and for files after "
        "all links are followed. Workers fetch with their own credentials. Default: none.",
    )
    database_pool_size: int = Field(
        default=10, gt=0, description="Database connections that one process keeps."
    )
    worker_slots: int = Field(default=1, gt=0, description="Jobs that one worker runs at once.")
    job_threads: int | None = Field(
        default=None,
        gt=0,
        description="Threads of one job. Default: the cores available, shared among the slots.",
    )
    job_memory_bytes: int = Field(
        default=8 * GIB, gt=0, description="Data memory one job may allocate."
    )
    job_result_bytes: int = Field(
        default=GIB, gt=0, description="Largest result of one job: its report and artifacts."
    )
    job_log_bytes: int = Field(
        default=64 * KIB, gt=0, description="What is kept of what one job prints."
    )
    device: Literal["cpu", "cuda"] = Field(
        default="cpu",
        description="Where a worker's jobs run models. `cuda`: on a GPU, except those whose "
        "options say cpu. The walls around models then leave the GPU's driver open.",
    )
    landlock: Literal["require", "degrade"] = Field(
        default="require",
        description="Whether workers start on a kernel without Landlock (Linux 5.13), the second "
        "wall around models. `degrade`: with the filter of system calls alone.",
    )
    job_seconds: float = Field(
        default=1800.0, gt=0, description="Time one attempt at a job may take."
    )
    max_probe_memory_bytes: int = Field(
        default=4 * GIB, gt=0, description="Memory the arrays of one probe may take."
    )
    lease_seconds: float = Field(
        default=60.0,
        gt=0,
        description="A worker that has not renewed its claim for so long has lost its job.",
    )
    max_attempts: int = Field(
        default=3, gt=0, description="Attempts at a job whose workers vanish, before it fails."
    )
    quarantine_after: int = Field(
        default=3,
        ge=0,
        description="Crashes and misbehaviours of one file after which no job opens it any more, "
        "until an operator releases it; 0: never.",
    )
    poll_seconds: float = Field(
        default=2.0,
        gt=0,
        description="How often the relay looks for work it was not notified of.",
    )
    log_json: bool = Field(default=False, description="Log JSON lines instead of text.")

    @field_validator("allowed_hosts", "probe_uris", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @property
    def threads_per_job(self) -> int:
        """Threads of one job: as set, or one slot's share of the cores this process may use."""
        return self.job_threads or max(1, len(os.sched_getaffinity(0)) // self.worker_slots)

    @property
    def blob_url(self) -> str:
        """The storage URL in force."""
        return self.storage_url or f"file://{self.data_dir.absolute()}/blobs"

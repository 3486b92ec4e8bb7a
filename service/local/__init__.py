"""Phiscope on one machine: real PostgreSQL and Valkey as children of one command. Linux only."""

from service.local.databases import LocalDatabases
from service.local.errors import LocalError
from service.local.processes import Child
from service.local.supervisor import Supervisor, unwind_on_termination

__all__ = [
    "Child",
    "LocalDatabases",
    "LocalError",
    "Supervisor",
    "unwind_on_termination",
]

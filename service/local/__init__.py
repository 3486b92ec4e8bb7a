"""The embedded stack: real PostgreSQL and Valkey as children of one command. Linux only."""

from service.local.errors import LocalStackError
from service.local.processes import Child
from service.local.stack import LocalStack
from service.local.supervisor import Supervisor, unwind_on_termination

__all__ = [
    "Child",
    "LocalStack",
    "LocalStackError",
    "Supervisor",
    "unwind_on_termination",
]

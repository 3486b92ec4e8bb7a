"""The lock of a blob: its bytes are in the store, and no table is its own."""

from sqlalchemy import Select, func, select


def lock_of(sha256: str) -> Select[tuple[None]]:
    """Keep others from storing or removing this blob until the transaction ends.

    Without it bytes could be found stored already, while a delete that sees no row of their new
    owner yet removes them.
    """
    return select(func.pg_advisory_xact_lock(int(sha256[:15], 16)))

"""Opening what is stored, and making sure that it is still what was uploaded."""

from contextlib import ExitStack
from typing import BinaryIO

from service.contract.failures import FailureCode
from service.platform.storage import BlobDamagedError, BlobStore
from workers.protocol.errors import JobError


def open_stored(store: BlobStore, sha256: str, what: str, opened: ExitStack) -> BinaryIO:
    """Open a stored file whose bytes have the digest that they had when they were uploaded.

    Args:
        store: Where it is.
        sha256: Its digest.
        what: How messages call it, as `the model`.
        opened: Closes it.

    Returns:
        The file; nobody has moved its position.

    Raises:
        JobError: `stored_file_damaged` if it is missing or unreadable, or other bytes are there.
    """
    try:
        return opened.enter_context(store.open_whole(sha256))
    except BlobDamagedError as error:
        raise JobError(
            FailureCode.STORED_FILE_DAMAGED,
            f"The stored copy of {what} {error}. Neither the file nor its owner is at fault, but "
            "the server's storage.",
            hint=f"Upload the same file (SHA-256 {sha256}) once more, which mends the stored copy, "
            "and ask again. Tell the server's operator, too: other files may have suffered.",
            detail={"sha256": sha256},
        ) from error

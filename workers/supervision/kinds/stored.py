"""Opening what is stored, and making sure that it is still what was uploaded."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO

from service.contract.failures import FailureCode
from service.platform.storage import BlobDamagedError, BlobStore
from workers.protocol.errors import JobError
from workers.protocol.text import printable

_MAX_NAME = 200


@dataclass(frozen=True)
class StoredFile:
    """A file that a job reads.

    Args:
        role: How messages call it, as `model` or `eval probe`.
        name: Its owner's name for it.
        sha256: Its digest.
    """

    role: str
    name: str
    sha256: str

    def open(self, store: BlobStore, opened: ExitStack) -> BinaryIO:
        """Open it, once its bytes have been found to have the digest.

        Args:
            store: Where it is.
            opened: Closes it.

        Returns:
            The file; nobody has moved its position.

        Raises:
            JobError: `stored_file_damaged` if it is missing or unreadable, or has other bytes.
        """
        try:
            return opened.enter_context(store.open_whole(self.sha256))
        except BlobDamagedError as error:
            raise JobError(
                FailureCode.STORED_FILE_DAMAGED,
                f"The stored copy of the {self.role} {error}. Neither the file nor its owner is at "
                "fault, but the server's storage.",
                hint=f"Upload the same file once more ({printable(self.name, _MAX_NAME)}, SHA-256 "
                f"{self.sha256}), which mends the stored copy, and ask again. Tell the server's "
                "operator, too: other files may have suffered.",
                detail={"name": self.name, "sha256": self.sha256},
            ) from error

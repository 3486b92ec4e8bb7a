"""What is wrong with an archive."""

from typing import Literal

from service.contract.archives.kinds import Kind


class ArchiveError(Exception):
    """An upload that is not a model archive, or not one that an exporter writes.

    Args:
        code: `not_a_model` if it is something else or damaged, `unsafe_archive` if it is built to
            be read in a way that exporters do not write.
        message: What was wrong.
        hint: What to do about it.
    """

    def __init__(
        self, code: Literal["not_a_model", "unsafe_archive"], message: str, hint: str
    ) -> None:
        super().__init__(f"{message} {hint}")
        self.code = code
        self.message = message
        self.hint = hint


def unsafe(what: str) -> ArchiveError:
    """Return the error of an archive that exporters do not write, and why it is not theirs."""
    return ArchiveError(
        "unsafe_archive",
        f"The archive is refused: {what}.",
        "Archives as torch.jit.save and torch.export.save write them have nothing of the kind; "
        "save the model again.",
    )


def damaged(what: str) -> ArchiveError:
    """Return the error of an archive that is not whole."""
    return ArchiveError(
        "not_a_model",
        f"The file begins like a model archive but is cut off or damaged: {what}.",
        "Upload it again: the upload was damaged, unless the file was so before. "
        "`python -m zipfile -t FILE` on your side tells which; a file that is not whole there has "
        "to be saved again.",
    )


def something_else(kind: Kind) -> ArchiveError:
    """Return the error of a file of another kind."""
    return ArchiveError(
        "not_a_model", f"The file is no model archive: it is {kind.what}.", kind.instead
    )

"""Texts of an untrusted model, and errors of torch, as they may be logged and shown."""

import re

from workers.extraction.refusals.refusing import Refusal
from workers.protocol.text import without_paths

NO_REASON = "it gives no reason"
_TEXT_LIMIT = 300
"""Characters kept of a text that an untrusted model wrote."""

_READ = 10 * _TEXT_LIMIT
_HERE = "<--- HERE"
_NO_LISTING = "Traceback of TorchScript (most recent call last):"
_AFTER_LISTING = re.compile(r"^[A-Za-z_][\w.]*: ?", re.MULTILINE)
_AFTER_MESSAGE = re.compile(
    r"\n\s*\n|\n\s*(?:Exception raised from |(?:Serialized\s+)?File \"|Traceback of )"
)
_PLACES = re.compile(
    r"\[enforce fail at [^\]]*\][^.]*\. ?"
    r"|\S* ?INTERNAL ASSERT FAILED at \S*, please report a bug to PyTorch\. ?"
    r"| ?\(of Python compilation unit at: \w+\)"
)

# What errors of torch say that no other input would avoid.
_INHERENT = {
    Refusal.OTHER_DEVICE: re.compile(
        r"\bCUDA (backend|functionality|driver)|support for cuda devices|ATen_cuda library"
        r"|Torch not compiled with CUDA|same device, but found"
    ),
    Refusal.NO_SOLUTION: re.compile(r"^(torch\.)?linalg[._]\w+: "),
}


def printable(text: str, limit: int = _TEXT_LIMIT) -> str:
    """Make a text from an untrusted model safe to log and to show: escaped and cut to `limit`."""
    # Cut first: escaping a text of many megabytes would be work on the attacker's terms.
    cut = text[:limit]
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
    return escaped[:limit] + ("…" if len(escaped) > limit or len(text) > limit else "")


def inherent(said: str) -> Refusal | None:
    """Return the refusal of a model that no other shape or dtype of its input would save, if any.

    Args:
        said: What its error says.
    """
    return next((refusal for refusal, words in _INHERENT.items() if words.search(said)), None)


def gist(error: BaseException) -> str:
    """Return what an error of torch or of a model says, in one line.

    Errors of TorchScript list the code they were raised in, before the message if the program ran,
    after it if it could not be read. Errors of torch's core begin with the place of a check and end
    in lists of kernels or of frames.

    Args:
        error: Any; its text is the model's, and may be of any length.
    """
    words = str(error)
    listing, mark, rest = words.rpartition(_HERE if _HERE in words else _NO_LISTING)
    after = _AFTER_LISTING.search(rest[:_READ]) if mark else None
    text = rest[after.end() :] if after else listing or rest
    message = _AFTER_MESSAGE.split(text[:_READ].strip(), maxsplit=1)[0]
    line = _PLACES.sub("", " ".join(message.split())).strip()
    if isinstance(error, KeyError):
        line = f"the key {line} is missing"
    if line == "AssertionError:":
        line = "an assertion in its code does not hold"
    line = without_paths(line.removeprefix("AssertionError: ").rstrip(":"))
    if len(line) > _TEXT_LIMIT:
        whole, end, _ = line[:_TEXT_LIMIT].rpartition(". ")
        line = whole + end.strip() or line
    return printable(line) or NO_REASON

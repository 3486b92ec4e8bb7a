"""Text from a child, made safe to log, to store and to show."""

import re

_ABSOLUTE_PATH = re.compile(r"(?<![\w.])/(?:[^\s/:'\",()]+/)+([^\s/:'\",()]+)")


def printable(text: str, most: int) -> str:
    r"""Escape everything but printable characters, line breaks and tabs, and cut to a length.

    Terminal escapes, NUL (which PostgreSQL refuses) and lone surrogates all become `\x1b`-like
    escapes.

    Args:
        text: Anything.
        most: The longest result, in characters.
    """
    escaped = "".join(
        character
        if character.isprintable() or character in "\n\t"
        else character.encode("unicode_escape").decode("ascii")
        for character in text[:most]
    )
    return escaped if len(text) <= most and len(escaped) <= most else f"{escaped[: most - 1]}…"


def without_paths(text: str) -> str:
    """Leave only the last part of each absolute path."""
    return _ABSOLUTE_PATH.sub(r"\1", text)

"""Addresses that probes are fetched from: parsed, compared with the allowed prefixes, and read.

Fetching uses the platform's own credentials, so only addresses below an allowed prefix are read.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from service.platform.incoming import CHUNK_BYTES

SCHEMES = ("s3", "gs", "az", "file")


class AddressError(ValueError):
    """A malformed, forbidden or unreadable address. The message is for its owner."""


@dataclass(frozen=True)
class Address:
    """Where something lies.

    Args:
        scheme: One of `SCHEMES`.
        store: Bucket or container; empty for a file.
        parts: Of the path.
    """

    scheme: str
    store: str
    parts: tuple[str, ...]

    def is_below(self, prefix: "Address") -> bool:
        """Return whether this address lies inside another one."""
        depth = len(prefix.parts)
        return (
            (self.scheme, self.store) == (prefix.scheme, prefix.store)
            and len(self.parts) > depth
            and self.parts[:depth] == prefix.parts
        )

    @property
    def path(self) -> Path:
        """Of a file."""
        return Path("/", *self.parts)


def parse(uri: str) -> Address:
    """Read an address.

    Raises:
        AddressError: It is none, or holds more than a place.
    """
    try:
        split = urlsplit(uri)
    except ValueError as error:
        raise AddressError(f"uri is no address: {error}.") from None
    if split.scheme not in SCHEMES:
        raise AddressError(
            f"uri begins with {split.scheme + '://' if split.scheme else 'no scheme'}; expected "
            + ", ".join(f"{scheme}://" for scheme in SCHEMES)
            + "."
        )
    if split.query or split.fragment or "@" in split.netloc or ":" in split.netloc:
        raise AddressError(
            "uri holds more than a place: expected no `?`, `#`, user or port. Encode them as %3F "
            "and %23 where they are part of a name."
        )
    is_file = split.scheme == "file"
    if bool(split.netloc) == is_file:
        expected = "three slashes, as file:///srv/probes/x.npz" if is_file else "a bucket"
        raise AddressError(f"uri has no place that can be read: expected {expected}.")
    parts = tuple(unquote(part) for part in split.path.split("/") if part)
    if any(part in {".", ".."} or "/" in part or "\0" in part for part in parts):
        raise AddressError("uri must not hold `.` or `..`, or an encoded slash.")
    return Address(split.scheme, split.netloc, parts)


def check_allowed(uri: str, prefixes: Sequence[str]) -> Address:
    """Read an address, and make sure that it is below one of the prefixes.

    Raises:
        AddressError: It is not, or is no address.
    """
    address = parse(uri)
    if not any(address.is_below(parse(prefix)) for prefix in prefixes):
        allowed = ", ".join(prefixes) or "none (PHISCOPE_PROBE_URIS is not set)"
        raise AddressError(
            f"uri is not below a prefix that this deployment allows: {allowed}. Upload the file as "
            "multipart/form-data instead, or ask its operator."
        )
    return address


def read(uri: str, prefixes: Sequence[str], max_bytes: int) -> Iterator[bytes]:
    """Read what an address names, in chunks.

    Args:
        uri: The address.
        prefixes: It must be below one of these; a file, also once its links are resolved.
        max_bytes: More than this is refused.

    Raises:
        AddressError: It is not allowed, not there, no file, too large, or cannot be read.
    """
    address = check_allowed(uri, prefixes)
    chunks = _of_file(address, prefixes) if address.scheme == "file" else _of_object(address)
    received = 0
    try:
        for chunk in chunks:
            received += len(chunk)
            if received > max_bytes:
                raise AddressError(f"what lies there is larger than {max_bytes:,} bytes.")
            yield chunk
    except FileNotFoundError:
        raise AddressError("there is nothing.") from None
    except (OSError, BaseError) as error:
        raise AddressError(f"the store says {type(error).__name__}.") from error


def _of_file(address: Address, prefixes: Sequence[str]) -> Iterator[bytes]:
    # Opened first, then asked for its real path: nothing can be swapped in between.
    fd = os.open(address.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        opened = Path(f"/proc/self/fd/{fd}").readlink()
        roots = [parse(prefix).path.resolve() for prefix in prefixes if prefix.startswith("file:")]
        if not any(opened.is_relative_to(root) for root in roots):
            raise AddressError("a link there leads out of the places that are allowed.")
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise AddressError("what lies there is no ordinary file.")
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _of_object(address: Address) -> Iterator[bytes]:
    store = from_url(f"{address.scheme}://{address.store}")
    found = obstore.get(store, "/".join(address.parts))
    yield from (bytes(chunk) for chunk in found.stream(min_chunk_size=CHUNK_BYTES))

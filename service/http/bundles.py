"""Several uploaded files as one: an uncompressed tar, as anyone would pack it."""

import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import BinaryIO

from service.http.problems import InvalidRequest

_MAX_NAME = 255


def by_name(files: Sequence[tuple[str | None, BinaryIO]]) -> dict[str, BinaryIO]:
    """Uploaded files under their names, sorted.

    Raises:
        InvalidRequest: A name is missing, given twice, or no name of a file.
    """
    found: dict[str, BinaryIO] = {}
    for given, file in files:
        name = (given or "").replace("\\", "/")
        path = PurePosixPath(name)
        if not path.name or path.is_absolute() or ".." in path.parts or len(name) > _MAX_NAME:
            raise InvalidRequest(
                f"A file is named {name[:_MAX_NAME]!r}; of several files each needs a name of its "
                "own, without `..` and without a leading slash. With curl: -F file=@x.npy "
                "-F file=@y.npy"
            )
        if str(path) in found:
            raise InvalidRequest(
                f"Two files are named {str(path)!r}; expected distinct names. With curl: "
                "-F 'file=@a/1.csv;filename=a/1.csv'"
            )
        found[str(path)] = file
    return dict(sorted(found.items()))


def pack(files: Mapping[str, BinaryIO]) -> BinaryIO:
    """Pack files into a tar that depends on nothing but their names and contents.

    Returns:
        A temporary file.
    """
    packed = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name, file in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = file.seek(0, 2)
                file.seek(0)
                archive.addfile(entry, file)
    except BaseException:
        packed.close()
        raise
    return packed

"""Arrow's IPC files and streams, and the folders that Hugging Face's `save_to_disk` writes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import pyarrow as pa

from workers.probes.containers.container import unreadable
from workers.probes.containers.members import Member, Members
from workers.probes.tables.columns import BROKEN
from workers.probes.tables.table import common_schema, damaged
from workers.protocol.arguments import ProbeLimits

FILE_MAGIC = b"ARROW1"
STREAM_MAGIC = b"\xff\xff\xff\xff"
SUFFIXES = (".arrow", ".feather")
_STATE = "state.json"
_STREAM_AT = 8
"""Of a file: its magic, padded."""


class ArrowSource:
    """The rows of Arrow files or streams, one after the other.

    Args:
        files: In order; each readable and seekable.

    Raises:
        JobError: `probe_unreadable` if one is damaged, or has other columns than the first.
    """

    def __init__(self, files: Mapping[str, BinaryIO]) -> None:
        self._files = list(files.values())
        try:
            schemas = {name: _open(file).schema for name, file in files.items()}
            self.schema: pa.Schema = common_schema(schemas)
            self.rows = sum(len(batch) for batch in self._read([0] if len(self.schema) else []))
        except BROKEN as error:
            raise damaged(error) from error

    def batches(self, names: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Yield some columns from the first row on, at most so many rows at once."""
        places = sorted(self.schema.get_field_index(name) for name in names)
        for batch in self._read(places):
            # What offsets and lengths point to is checked by no one else.
            batch.validate(full=True)
            chosen = batch.select(list(names))
            for at in range(0, len(chosen), rows):
                yield chosen.slice(at, rows)

    def _read(self, places: Sequence[int]) -> Iterator[pa.RecordBatch]:
        for file in self._files:
            yield from _open(file, places)


def dataset_files(members: Members, limits: ProbeLimits) -> list[Member]:
    """Return an archive's Arrow files, in order; of a Hugging Face folder, those it lists.

    Raises:
        JobError: `probe_unreadable` for several datasets, or one that is not whole.
    """
    files = [file for file in members.visible() if file.suffix in SUFFIXES]
    states = [file for file in members.visible() if file.path.name == _STATE]
    if not states:
        return files
    if len(states) > 1:
        parts = ", ".join(repr(state.path.parent.name) for state in states)
        raise unreadable(
            f"The archive holds several datasets: {parts}; expected one.",
            hint="Save and pack one of them: "
            f'dataset_dict["{states[0].path.parent.name}"].save_to_disk(folder).',
        )
    state = _state(states[0], limits)
    if state.get("_indices_data_files"):
        raise unreadable(
            "The dataset's rows are picked by a list of indices, which is not read.",
            hint="Save dataset.flatten_indices() instead.",
        )
    listed = state.get("_data_files")
    names = [
        entry["filename"]
        for entry in (listed if isinstance(listed, list) else [])
        if isinstance(entry, dict) and isinstance(entry.get("filename"), str)
    ]
    folder = states[0].path.parent
    by_path = {file.path: file for file in files}
    wanted = [PurePosixPath(folder, name) for name in names]
    missing = [str(path) for path in wanted if path not in by_path]
    if missing or not wanted:
        raise unreadable(
            f"The dataset is not whole: its {_STATE} lists {', '.join(map(repr, names[:8]))}, and "
            f"{', '.join(map(repr, missing[:8])) or 'no file'} is missing.",
            hint="Pack the whole folder that save_to_disk has written.",
        )
    return [by_path[path] for path in wanted]


def _state(file: Member, limits: ProbeLimits) -> dict[str, Any]:
    try:
        found = json.loads(file.read(limits))
    except (ValueError, RecursionError) as error:
        raise damaged(error) from error
    return found if isinstance(found, dict) else {}


def _open(file: BinaryIO, places: Sequence[int] | None = None) -> pa.RecordBatchStreamReader:
    """Open a stream, or the stream that a file holds after its magic; its directory has no use.

    The directory is also what pyarrow starts threads to read, which the warm parent may not have.
    """
    file.seek(0)
    file.seek(_STREAM_AT if file.read(len(FILE_MAGIC)) == FILE_MAGIC else 0)
    options = pa.ipc.IpcReadOptions(use_threads=False, included_fields=places)
    return pa.ipc.open_stream(file, options=options)

"""Tables of text with a header: CSV, with commas, semicolons or tabs."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from workers.probes.containers.container import (
    ArrayInfo,
    check_name,
    check_size,
    size_in_bytes,
    unreadable,
)
from workers.probes.tables.columns import MissingValueError
from workers.probes.tables.table import too_many_columns
from workers.protocol.arguments import ProbeLimits
from workers.protocol.errors import JobError

SUFFIXES = (".csv", ".tsv")
DELIMITERS = ",;\t|"
_ROWS_AT_ONCE = 4096
_NUMBER_BYTES = 8
_LEAST_NUMBERED = 3
_MISSING = frozenset({"", "NA", "N/A", "n/a", "null", "NULL", "None", "<NA>", "#N/A"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False}
_BOOLEANS["FALSE"] = False
_INDEX = "Unnamed: 0"
"""What pandas calls the column without a name that it writes before the others."""

_TYPES = ("bool", "int64", "float64", "str")
"""A column has the first of these that all its cells can be read as."""

Cells = tuple[str, ...]


class CsvTable:
    """A container whose arrays are the columns of text tables with one header.

    Args:
        files: In order; each readable and seekable.
        limits: What they may ask for.

    Raises:
        JobError: `probe_unreadable`, saying what was found instead, and where.
    """

    def __init__(self, files: Mapping[str, BinaryIO], limits: ProbeLimits) -> None:
        self._files = files
        self._limits = limits
        self._delimiter = ","
        self._names = self._read_headers()
        self._types = [0] * len(self._names)
        self._missing: dict[str, int] = {}
        self._longest = [1] * len(self._names)
        self._kept: list[list[npt.NDArray[np.generic]]] = [[] for _ in self._names]
        self._rows = 0
        for columns in self._blocks():
            for place, cells in enumerate(columns):
                self._look_at(place, cells)
            self._rows += len(columns[0])
            kept = sum(1 for kind in self._types if _TYPES[kind] != "str")
            info = ArrayInfo("float64", (self._rows, kept), self._rows * kept * _NUMBER_BYTES)
            check_size("all columns of numbers", info, limits)
        self._arrays = {name: self._describe(name, place) for place, name in enumerate(self._names)}

    @property
    def arrays(self) -> Mapping[str, ArrayInfo]:
        """The columns by name, in file order."""
        return self._arrays

    @property
    def index_columns(self) -> list[str]:
        """The column that pandas wrote before the others, without a name."""
        return [_INDEX] if _INDEX in self._arrays else []

    def missing(self, names: Sequence[str]) -> list[str]:
        """Return those of some columns that miss a value in a row."""
        return [name for name in names if name in self._missing]

    def read(self, name: str) -> npt.NDArray[np.generic]:
        """Read one column."""
        info = self._arrays[name]
        check_size(name, info, self._limits)
        if not info.is_numeric:
            self._refuse_missing([name])
            place = self._names.index(name)
            return np.array([cell for block in self._blocks() for cell in block[place]], np.str_)
        return self.stack([name])[:, 0]

    def stack(self, names: Sequence[str], rows: int | None = None) -> npt.NDArray[np.generic]:
        """Read columns of numbers side by side, shape (rows, columns)."""
        self._refuse_missing(names)
        places = [self._names.index(name) for name in names]
        dtype = np.result_type(*(self._arrays[name].dtype for name in names))
        wanted = self._rows if rows is None else min(rows, self._rows)
        read = np.empty((wanted, len(names)), dtype)
        for to, place in enumerate(places):
            at = 0
            for block in self._kept[place]:
                part = block[: wanted - at]
                read[at : at + len(part), to] = part
                at += len(part)
        return read

    def _read_headers(self) -> list[str]:
        headers: dict[str, list[str]] = {}
        for name, file in self._files.items():
            with _text(file) as lines:
                first = next(iter(lines), "")
                self._delimiter = max(DELIMITERS, key=lambda mark: len(_cells(first, mark)))
                reader = csv.reader(chain([first], lines), delimiter=self._delimiter, strict=True)
                headers[name] = [cell.strip() for cell in next(reader, [])]
        (first_name, names), *others = headers.items()
        for name, other in others:
            if other != names:
                raise unreadable(
                    f"The files are no parts of one table: {first_name!r} and {name!r} begin with "
                    "different headers.",
                    hint="Upload files with the same columns in the same order, or one alone.",
                )
        if names[:1] == [""] and len(names) > 1:
            names[0] = _INDEX
        _check_header(names, self._limits)
        return names

    def _blocks(self) -> Iterator[list[Cells]]:
        """Yield some thousand rows at a time, as the cells of each column."""
        before = 0
        for name, file in self._files.items():
            with _text(file) as lines:
                reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
                next(reader, None)
                rows = (row for row in reader if row)
                while block := list(islice(rows, _ROWS_AT_ONCE)):
                    for row in block:
                        if len(row) != len(self._names):
                            raise self._odd_row(name, before, row, reader.line_num)
                    before += len(block)
                    yield list(zip(*block, strict=True))

    def _look_at(self, place: int, cells: Cells) -> None:
        name = self._names[place]
        present = cells
        if not _MISSING.isdisjoint(cells):
            row = next(row for row, cell in enumerate(cells) if cell in _MISSING)
            self._missing.setdefault(name, self._rows + row)
            present = tuple(cell for cell in cells if cell not in _MISSING)
        self._longest[place] = max(self._longest[place], *map(len, cells))
        while _TYPES[self._types[place]] != "str":
            numbers = _convert(present, _TYPES[self._types[place]])
            if numbers is not None:
                # What misses a value is never read: only its place matters.
                self._kept[place].append(numbers)
                return
            # Whole numbers may go on as others, but after true and false there is only text.
            was_bool = self._types[place] == 0 and any(len(kept) for kept in self._kept[place])
            self._types[place] = len(_TYPES) - 1 if was_bool else self._types[place] + 1
        self._kept[place] = []

    def _describe(self, name: str, place: int) -> ArrayInfo:
        kind, shape = _TYPES[self._types[place]], (self._rows,)
        itemsize = np.dtype("U1").itemsize * self._longest[place]
        if kind != "str":
            itemsize = np.dtype(kind).itemsize
        return ArrayInfo(kind, shape, size_in_bytes(name, shape, itemsize))

    def _refuse_missing(self, names: Sequence[str]) -> None:
        if found := self.missing(names):
            raise MissingValueError(found[0], self._missing[found[0]])

    def _odd_row(self, file: str, before: int, row: Sequence[str], line: int) -> JobError:
        return unreadable(
            f"A row of {file!r} near line {line:,} has {len(row):,} cells where the header has "
            f"{len(self._names):,}; expected the same number. It begins with "
            f"{self._delimiter.join(row)[:60]!r}.",
            hint="Quote cells that hold the delimiter, and leave no cell out: an empty one is two "
            "delimiters in a row.",
            detail={"line": line, "rows_before": before},
        )


def _convert(cells: Sequence[str], kind: str) -> npt.NDArray[np.generic] | None:
    """Return the cells as numbers, or None if one of them is none."""
    if kind == "bool":
        if not _BOOLEANS.keys() >= set(cells):
            return None
        return np.array([_BOOLEANS[cell] for cell in cells], np.bool_)
    if "_" in "".join(cells):
        return None  # Python reads 1_000 as a number, and nobody else does
    try:
        if kind == "int64":
            return np.fromiter(map(int, cells), np.int64, len(cells))
        return np.fromiter(map(float, cells), np.float64, len(cells))
    except (ValueError, OverflowError):
        return None


@contextmanager
def _text(file: BinaryIO) -> Iterator[io.TextIOWrapper]:
    """A file as lines of text; whatever keeps it from being read as such is said."""
    file.seek(0)
    lines = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        yield lines
    except UnicodeDecodeError as error:
        raise unreadable(
            f"The table is not encoded as UTF-8: {error}.",
            hint="Save it again as UTF-8; in a spreadsheet, as 'CSV UTF-8'.",
        ) from error
    except csv.Error as error:
        raise unreadable(
            f"The table cannot be split into cells: {error}.",
            hint="Close every quoted cell, and double the quotes inside of it, as "
            "pandas.DataFrame.to_csv and Python's csv module do.",
        ) from error
    finally:
        lines.detach()


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def _check_header(names: Sequence[str], limits: ProbeLimits) -> None:
    if len(names) > limits.max_columns:
        raise too_many_columns(len(names), limits)
    numbers = [name for name in names if _convert([name], "float64") is not None]
    if numbers and not _count(numbers):
        raise unreadable(
            f"The first line holds numbers ({', '.join(numbers[:4])}), as a row of the table does; "
            "expected the names of the columns.",
            hint="Add a first line with a name for each column, such as "
            + ",".join([*(f"x{place}" for place in range(min(len(names) - 1, 3))), "label"])
            + ".",
        )
    for name in names:
        check_name(name)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise unreadable(
            f"The table has two columns named {twice!r}; expected distinct names.",
            hint="Give each column a name of its own.",
        )


def _count(numbers: Sequence[str]) -> bool:
    """Return whether columns are numbered, as pandas numbers those without names."""
    counted = [str(place) for place in range(len(numbers) + 1)]
    return len(numbers) >= _LEAST_NUMBERED and [*numbers] in (counted[:-1], counted[1:])

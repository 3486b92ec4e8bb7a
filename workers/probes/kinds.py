"""Which kind of files an archive holds, judged by their names."""

from collections.abc import Mapping, Sequence

from service.contract.probe_spec import ProbeFormat
from workers.probes.containers import pictures
from workers.probes.containers.container import unreadable
from workers.probes.containers.members import Member, Members
from workers.probes.tables import arrow, csv_table
from workers.protocol.errors import JobError

SUFFIXES: Mapping[ProbeFormat, tuple[str, ...]] = {
    "npz": (".npy",),
    "parquet": (".parquet", ".pq"),
    "arrow": arrow.SUFFIXES,
    "csv": csv_table.SUFFIXES,
    "imagefolder": pictures.SUFFIXES,
}
"""Of the files that make up an archive of each format."""

_OTHER = "another kind"
_DATA = (
    *(".npz", ".safetensors", ".pt", ".pth", ".pkl", ".pickle", ".mat", ".h5", ".hdf5"),
    *(".txt", ".json", ".jsonl", ".xlsx"),
)
"""Of files that may hold inputs or labels, but in no archive that is read."""

_BESIDE: Mapping[str, tuple[str, ...]] = {
    "arrow": (".json",),
    "parquet": (".json",),
    "imagefolder": (".txt", ".json"),
}
"""What is written beside such files, and says nothing that is needed."""

_NOTES = ("readme", "license", "licence", "notice")
_NAMED = 3


def kind_of(held: Members) -> ProbeFormat | None:
    """Return the format of what is in an archive; None if it is none that is read.

    Raises:
        JobError: `probe_unreadable` for files of several kinds: one of them would be left out,
            and with it perhaps the labels.
    """
    found: dict[str, list[Member]] = {}
    for file in held.visible():
        kind = next((kind for kind, ends in SUFFIXES.items() if file.suffix in ends), None)
        if kind is not None:
            found.setdefault(kind, []).append(file)
    kinds: list[ProbeFormat] = [kind for kind in SUFFIXES if kind in found]
    needless = _needless(kinds[0], found[kinds[0]]) if kinds else ()
    others = [
        file
        for file in held.visible()
        if kinds
        and file.suffix in _DATA
        and file.suffix not in needless
        and not file.path.name.lower().startswith(_NOTES)
    ]
    if others:
        found[_OTHER] = others
    if len(found) > 1:
        raise _several(found)
    if not kinds and any(file.name.endswith(SUFFIXES["npz"]) for file in held.files):
        return "npz"  # whose names are for its reader to refuse
    return kinds[0] if kinds else None


def _needless(kind: ProbeFormat, files: Sequence[Member]) -> tuple[str, ...]:
    """Ends of files that say nothing which is needed beside files of a kind."""
    if kind == "imagefolder" and len({file.path.parent for file in files}) == 1:
        return ()  # no folders say what the classes are, so that a text may
    return _BESIDE.get(kind, ())


def _several(found: Mapping[str, Sequence[Member]]) -> JobError:
    listed = [f"{len(files):,} of {kind} ({_named(files)})" for kind, files in found.items()]
    aside = [file for kind, files in found.items() if kind != "imagefolder" for file in files]
    hint = (
        "Save all of it as one kind, with numpy.savez(path, x=inputs, y=labels) or as .npy files "
        "of those names, and leave out what is no part of the probe."
    )
    if "imagefolder" in found:
        hint = (
            f"Leave {_named(aside)} out, and pack the images in one folder for each class; or save "
            "images and labels together with numpy.savez(path, x=images, y=labels)."
        )
    return unreadable(
        f"The files are of several kinds, {', '.join(listed[:-1])} and {listed[-1]}; expected one "
        "kind.",
        hint=hint,
        detail={"files": [file.name[:80] for file in aside[:_NAMED]]},
    )


def _named(files: Sequence[Member]) -> str:
    names = ", ".join(repr(file.name[:80]) for file in files[:_NAMED])
    return f"{names} …" if len(files) > _NAMED else names

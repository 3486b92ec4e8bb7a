"""Where the reports are kept, and how one is compared with another."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPORTS = Path(__file__).parent / "reports"

# Another order of adding changes float64 in the sixteenth digit, and eigenfunctions of eigenvalues
# that lie close together by some hundred times as much.
FIGURES = 1e-12
# Of intervals, which come from what is left when each fold is taken out.
INTERVALS = 1e-9
# Of more features than `FEW_FEATURES` intervals are found nearly, by iteration and to first order;
# the reports hold what solving each fold in full gave. So much of their width is allowed.
NEARLY = 0.02

_INTERVAL = "confidence_interval"
# Of how the figures came about, what differs from run to run and from machine to machine.
_IGNORED = ("provenance.timings", "provenance.versions")
# The root of a difference of two nearly equal numbers: what is known of it is its square.
_ROOTS = ("output_error",)


def path_of(name: str) -> Path:
    """The file of a case's report."""
    return REPORTS / f"{name}.json"


def read(name: str) -> Any:
    """The report of a case, as it was kept."""
    return json.loads(path_of(name).read_text())


def write(name: str, report: dict[str, Any]) -> None:
    """Keep the report of a case; a number on each line, so that a change shows which."""
    provenance = {k: v for k, v in report["provenance"].items() if _is_kept(f"provenance.{k}")}
    text = json.dumps({**report, "provenance": provenance}, indent=0, allow_nan=False)
    path_of(name).write_text(text + "\n")


def differences(kept: Any, found: Any, path: str = "", *, nearly: bool = False) -> Iterator[str]:
    """Where a report differs from the one that was kept, with both values.

    Numbers of a list may differ by a share of the list's largest, others by a share of themselves
    or of 1.

    Args:
        kept: The report that was kept, or a part of it.
        found: The same now.
        path: Which part that is.
        nearly: Whether intervals are found nearly.
    """
    if isinstance(kept, dict) and isinstance(found, dict):
        for key in dict.fromkeys((*kept, *found)):
            inner = f"{path}.{key}" if path else key
            if not _is_kept(inner):
                continue
            if key in kept and key in found:
                yield from differences(kept[key], found[key], inner, nearly=nearly)
            else:
                yield f"{inner}: only in the report {'kept' if key in kept else 'found'}"
    elif isinstance(kept, list) and isinstance(found, list) and len(kept) == len(found):
        yield from _of_lists(kept, found, path, nearly=nearly)
    elif _is_float(kept) and _is_float(found):
        yield from _of_numbers(kept, found, path, max(abs(kept), 1.0))
    elif type(kept) is not type(found) or kept != found:
        yield f"{path}: kept {kept!r}, found {found!r}"


def _of_lists(kept: list[Any], found: list[Any], path: str, *, nearly: bool) -> Iterator[str]:
    if nearly and _INTERVAL in path and _is_near(kept, found):
        return
    scale = max((abs(each) for each in kept if _is_float(each)), default=1.0)
    for place, (before, now) in enumerate(zip(kept, found, strict=True)):
        inner = f"{path}[{place}]"
        if _is_float(before) and _is_float(now) and _INTERVAL not in path:
            yield from _of_numbers(before, now, inner, scale)
        else:
            yield from differences(before, now, inner, nearly=nearly)


def _is_near(kept: list[Any], found: list[Any]) -> bool:
    """Whether both bounds of an interval are off by little of its width."""
    allowed = NEARLY * (kept[1] - kept[0])
    return all(abs(before - now) <= allowed for before, now in zip(kept, found, strict=True))


def _of_numbers(kept: float, found: float, path: str, scale: float) -> Iterator[str]:
    tolerance = INTERVALS if _INTERVAL in path else FIGURES
    before, now = (kept**2, found**2) if path.endswith(_ROOTS) else (kept, found)
    if not math.isclose(before, now, rel_tol=0, abs_tol=tolerance * scale):
        yield f"{path}: kept {kept!r}, found {found!r}"


def _is_kept(path: str) -> bool:
    return path not in _IGNORED


def _is_float(value: Any) -> bool:
    return isinstance(value, float)

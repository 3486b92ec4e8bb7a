"""The verdict rule before the present one, to show what the change did to every network."""

from collections.abc import Mapping
from typing import Any

NAME = "UED-1"


def regime(report: Mapping[str, Any]) -> str:
    """Return what UED-1 would have said of a report's figures.

    It judged U' where UED-2 judges the tapered utilization, and did not bound D by itself. Where
    the present rule does not apply, the earlier one did not either.
    """
    verdict = report["verdict"]
    bounds = verdict["confidence_interval"]
    judged = [bounds[name] for name in ("utilization_corrected", "energy", "distance")]
    if verdict["reasons"][0].startswith(("Not applicable", "Too few", "The ")) or None in judged:
        return "undetermined"
    utilization, energy, distance = judged
    if utilization[0] >= 0.88 and (energy[0] >= 0.755 or distance[1] <= 0.12):
        return "MF"
    if utilization[1] <= 0.84 or (energy[1] <= 0.715 and distance[0] >= 0.20):
        return "EF"
    return "undetermined"

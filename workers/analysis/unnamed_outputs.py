"""Outputs that no label names: those of classes that a probe lacks, or numbers of an embedding.

A network without a head returns its embedding, and the last linear layer then looks like a head
with one class for each number of the embedding. The labels fit if the embedding has enough numbers,
so the report says that the outputs were treated as those of classes.
"""

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from service.contract.options import Options
from workers.extraction import FeatureMap
from workers.extraction.head.advising import chosen
from workers.probes.probe import ProbeData

_LISTED = 8
_ABLE = 0.5
"""Skill above which the answers are those of a classifier: half-way from guessing to perfect."""


def unnamed_outputs(
    probe: ProbeData, found: FeatureMap, options: Options, skill: float | None
) -> list[str]:
    """Return notes about outputs that no label names.

    A probe may lack some classes, so unnamed outputs alone are not noted. They are if most outputs
    have no label and the answers are not good, or if the answers are no better than naming the most
    frequent class.

    Args:
        probe: The samples, with settled targets.
        found: What was found in the model.
        options: What the model's owner says.
        skill: Accuracy, rescaled so that naming the most frequent class scores 0; None if unknown.

    Returns:
        One note for the report, or none.
    """
    named = _named_outputs(probe, found.outputs)
    is_guessing = skill is not None and skill <= 0
    is_able = skill is not None and skill > _ABLE
    is_suspect = len(named) < found.outputs and is_guessing
    is_suspect = is_suspect or (2 * len(named) < found.outputs and not is_able)
    if not named or not is_suspect or not _may_be_embedding(probe, found, options):
        return []
    return [_note(named, found, is_guessing=is_guessing)]


def _note(named: Sequence[int], found: FeatureMap, *, is_guessing: bool) -> str:
    guesses = (
        ", and the answers are no better than naming the most frequent class" if is_guessing else ""
    )
    choice = chosen({"features_output": found.output or 0})
    alone = (
        f" Save it so that it returns nothing beside `{found.output}` then." if found.output else ""
    )
    return (
        f"The labels name only {len(named):,} of the {found.outputs:,} outputs' classes: "
        f"{_listed(named)}, counted from 0; the others are the class of no sample{guesses}. If "
        "the model returns an embedding rather than one score for each class, its numbers are the "
        f"features: {choice} judges them as such.{alone}"
    )


def _named_outputs(probe: ProbeData, outputs: int) -> list[int]:
    """Return the outputs whose class some sample has; empty if the outputs are not of classes."""
    targets = probe.targets
    if targets is None or targets.task != "classification" or outputs == 1:
        return []
    return [int(k) for k in np.flatnonzero(targets.class_counts or ())]


def _may_be_embedding(probe: ProbeData, found: FeatureMap, options: Options) -> bool:
    """Return whether neither the model nor its owner says that the outputs are of classes."""
    choice = options.feature_map
    is_declared = choice != "auto" and choice.features_output is not None
    is_row = found.positions == 1 and found.verified and not is_declared
    targets = probe.targets
    lists = () if targets is None else (targets.class_names, targets.labels)
    is_listed = any(listed is not None and len(listed) == found.outputs for listed in lists)
    return is_row and "softmax" not in found.link and not is_listed


def _listed(outputs: Sequence[int]) -> str:
    """Return a list of outputs in words, with consecutive ones as ranges."""
    runs = []
    for _, run in groupby(enumerate(outputs), lambda pair: pair[1] - pair[0]):
        members = [output for _, output in run]
        ends = f"{members[0]:,} to {members[-1]:,}" if len(members) > 1 else f"{members[0]:,}"
        runs.append(ends)
    more = " …" if len(runs) > _LISTED else ""
    return f"{'output' if len(outputs) == 1 else 'outputs'} {', '.join(runs[:_LISTED])}{more}"

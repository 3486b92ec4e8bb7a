"""The first runs of a model: on a batch size it takes, unwatched and then under a tape."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import nn
from torch.fx import GraphModule

from service.failures import FailureCode
from workers.errors import JobError
from workers.extraction.execution import Batch, Output, copied, execute, resized
from workers.extraction.fit.mismatch import explain
from workers.extraction.tape import Tape

_BAKED_ROWS = (1, 2, 4, 8, 32, 64, 128, 256)
"""Batch sizes tried when an archive refuses the usual ones and does not say its own."""

_MOST_ROWS = 4096
_MOST_TRIES = 40


def record(model: nn.Module, batch: Batch, rows: int) -> tuple[Batch, Tape, list[Output]]:
    """Records a run on a few samples; on other batch sizes if one is baked into the archive.

    Args:
        model: The model.
        batch: Where the samples come from.
        rows: How many are wanted.

    Returns:
        The samples the model took, the tape of the run, and its results.

    Raises:
        JobError: Why the model does not take the wanted number, if it takes none.
    """
    usual = min(rows, len(batch[0]))
    sizes = dict.fromkeys((usual, len(batch[0]), *_stated_sizes(model), *_BAKED_ROWS))
    errors: list[JobError] = []
    for size in list(sizes)[:_MOST_TRIES]:
        sample = resized(batch, size)
        try:
            # Unwatched first: errors that pass through a dispatch mode lose their text, and a model
            # may set itself up in its first run.
            execute(model, copied(sample))
        except JobError as error:
            if error.failure.code is not FailureCode.INPUT_MISMATCH:
                raise
            errors.append(error)
            continue
        copies = copied(sample)
        tape = Tape(copies)
        return sample, tape, execute(model, copies, tape)
    raise explain(model, resized(batch, usual), errors[0]) from errors[0]


def _stated_sizes(model: nn.Module) -> Iterator[int]:
    """Numbers in an archive that may be its batch size, likely ones first."""
    if isinstance(model, GraphModule):
        found = _example_sizes(model)
    elif isinstance(model, torch.jit.ScriptModule):
        found = _constants(cast("Any", model).inlined_graph)
    else:
        return
    yield from (number for number in dict.fromkeys(found) if 0 < number <= _MOST_ROWS)


def _example_sizes(model: GraphModule) -> Iterator[int]:
    """First axes of the inputs a program was exported with, where those are fixed."""
    for node in model.graph.find_nodes(op="placeholder"):
        shape = getattr(node.meta.get("val"), "shape", ())
        if shape and isinstance(shape[0], int):
            yield shape[0]


def _constants(block: Any) -> Iterator[int]:
    """Integer constants of a TorchScript graph, the nested blocks' included."""
    for node in block.nodes():
        if node.kind() == "prim::Constant" and str(node.output().type()) == "int":
            yield int(node.output().toIValue())
        for inner in node.blocks():
            yield from _constants(inner)

"""The first runs of a model: on a batch size it takes, unwatched and then under a tape."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import nn

from service.contract.failures import FailureCode
from workers.extraction.fit.mismatch import explain
from workers.extraction.trace.execution import Batch, Output, copied, execute, resized
from workers.extraction.trace.signature import as_saved, exported_inputs
from workers.extraction.trace.tape import Tape
from workers.protocol.errors import JobError

_BAKED_ROWS = (1, 2, 4, 8, 32, 64, 128, 256)
"""Batch sizes tried when an archive refuses the usual ones and does not say its own."""

_MOST_ROWS = 4096
_MOST_TRIES = 40
_UNLIMITED = 2**31


def record(model: nn.Module, batch: Batch, rows: int) -> tuple[Batch, Tape, list[Output]]:
    """Record a run on a few samples; on other batch sizes if one is baked into the archive.

    Args:
        model: The model.
        batch: Where the samples come from.
        rows: How many are wanted.

    Returns:
        The samples the model took, the tape of the run, and its results.

    Raises:
        JobError: Why the model does not take the wanted number, if it takes none.
    """
    try:
        sample, _ = first_run(model, batch, rows)
    except JobError as error:
        if error.failure.code is not FailureCode.INPUT_MISMATCH:
            raise
        raise explain(model, resized(batch, min(rows, len(batch[0]))), error) from error
    copies = copied(sample)
    tape = Tape(copies)
    return sample, tape, execute(model, copies, tape)


def first_run(
    model: nn.Module, batch: Batch, rows: int, *, any_size: bool = True
) -> tuple[Batch, list[Output]]:
    """Run a model on a few samples, unwatched; on another number if it does not take that many.

    Errors that pass through a dispatch mode lose their text, and a model may set itself up in its
    first run, so this comes before any run that is watched.

    Args:
        model: The model.
        batch: Where the samples come from.
        rows: How many are wanted.
        any_size: Try other numbers, too, if it does not take that many.

    Returns:
        The samples the model took, and its results.

    Raises:
        JobError: Why the model does not take the wanted number, if it takes none.
    """
    usual = min(rows, len(batch[0]))
    others = (len(batch[0]), *_stated_sizes(model), *_BAKED_ROWS) if any_size else ()
    sizes = dict.fromkeys((usual, *others))
    errors: list[JobError] = []
    for size in list(sizes)[:_MOST_TRIES]:
        sample = resized(batch, size)
        try:
            return sample, execute(model, copied(sample))
        except JobError as error:
            if error.failure.code is not FailureCode.INPUT_MISMATCH:
                raise
            errors.append(error)
    raise errors[0]


def _stated_sizes(model: nn.Module) -> Iterator[int]:
    """Yield numbers in an archive that may be its batch size, likely ones first."""
    model = as_saved(model)
    found: Iterator[int] = iter(())
    if isinstance(model, torch.jit.ScriptModule):
        found = _constants(cast("Any", model).inlined_graph)
    elif (limits := batch_limits(model)) is not None:
        found = iter(number for number in reversed(limits) if number is not None)
    yield from (number for number in dict.fromkeys(found) if 0 < number <= _MOST_ROWS)


def batch_limits(model: nn.Module) -> tuple[int, int | None] | None:
    """Return how many samples an exported program says it takes: fewest and most.

    Returns:
        `None` for the most where there is no limit; `None` for both for what is no exported
        program, or none that has samples.
    """
    sizes = [tensor.shape[0] for tensor in exported_inputs(model).values() if tensor.dim()]
    if not sizes:
        return None
    size: int | torch.SymInt = sizes[0]
    if isinstance(size, int):
        return size, size
    symbol = size.node
    bounds = symbol.shape_env.bound_sympy(symbol.expr)
    most = int(bounds.upper) if bounds.upper.is_finite and bounds.upper <= _UNLIMITED else None
    return max(1, int(bounds.lower)), most


def _constants(block: Any) -> Iterator[int]:
    """Yield integer constants of a TorchScript graph, the nested blocks' included."""
    for node in block.nodes():
        if node.kind() == "prim::Constant" and str(node.output().type()) == "int":
            yield int(node.output().toIValue())
        for inner in node.blocks():
            yield from _constants(inner)

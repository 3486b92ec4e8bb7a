"""Run as a child: every stage from features to artifacts, within so much data memory.

Reads a problem and its limit from each line, and answers with 0 if that sufficed and 3 if memory
ran out. Each is solved in a process forked for it alone, which has nothing of the one before it.
"""

import os
import resource
import sys
from functools import reduce
from operator import add

import safetensors.numpy
import torch

from workers.diagnostics import Coordinates, Model, Rows, diagnose
from workers.diagnostics.folds import Folds
from workers.diagnostics.output_space import OutputSpace
from workers.protocol.memory import data_bytes

OUT_OF_MEMORY = 3


def run(rows: int, p: int, c: int) -> None:
    """Diagnose random features of c classes, and write the moments."""
    labels = torch.arange(rows) % c
    means, head = torch.randn(c, p), torch.randn(p, c)
    folds = Folds(rows)
    for part in labels.split(256):  # type: ignore[no-untyped-call]  # torch's
        phi = (means[part] + torch.randn(len(part), p)).relu()
        folds.update(phi, phi @ head, torch.eye(c)[part])
    moments = folds.moments()
    diagnosis = diagnose(moments, Model("classification"), coordinates=Coordinates(folds.basis))
    arrays = reduce(add, moments).to_arrays()
    if folds.basis is not None:
        arrays["basis"] = folds.basis.contiguous().numpy()
    safetensors.numpy.save(arrays)
    assert diagnosis.n == rows


def run_by_class(rows: int, p: int, head: torch.Tensor) -> None:
    """The same of a known head and labels, with single rows' answers, as an analysis has them."""
    c = len(head)
    labels = torch.arange(rows) * 7 % c
    space = OutputSpace.of_head(c, head, None)
    folds = Folds(rows, classes=c)
    kept, told = [], []
    for part in labels.split(128):  # type: ignore[no-untyped-call]  # torch's
        phi = (torch.randn(len(part), p) + head[part].float()).relu()
        outputs = phi @ head.float().T
        folds.update(phi, space.coordinates(outputs), part)
        kept.append(phi)
        told.append(outputs.argmax(1))
    moments = folds.moments()
    space = space.within(folds.output_basis)
    answers = Rows(torch.cat(kept), torch.cat(told), labels, lambda outputs: outputs.argmax(1))
    diagnosis = diagnose(
        moments,
        Model("classification", head=head),
        rows=answers,
        coordinates=Coordinates(folds.basis, space),
    )
    arrays = reduce(add, moments).to_arrays()
    if folds.basis is not None:
        arrays["basis"] = folds.basis.contiguous().numpy()
    safetensors.numpy.save({name: array.copy() for name, array in arrays.items()})
    assert diagnosis.n == rows


def measure(rows: int, p: int, c: int, by_class: int, limit: int) -> int:
    """Keep to the limit and run."""
    head = torch.randn(c, p, dtype=torch.float64) if by_class else None
    memory = data_bytes() + limit
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    try:
        if head is None:
            run(rows, p, c)
        else:
            run_by_class(rows, p, head)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "memory" in str(error):
            return OUT_OF_MEMORY
        raise
    return 0


def main() -> None:
    """Answer to each line."""
    torch.set_num_threads(1)
    torch.linalg.eigh(torch.eye(300, dtype=torch.float64))
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = measure(*map(int, line.split()))
            finally:
                os._exit(status)
        _, ended = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(ended), flush=True)  # noqa: T201 - it is the answer


if __name__ == "__main__":
    main()

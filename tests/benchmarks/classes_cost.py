"""What many classes cost: a whole analysis as the confined child runs it, with its peak memory.

Run it by hand: `python tests/benchmarks/classes_cost.py`, or with numbers of classes. Each analysis
has a process of its own; what that has allocated before the analysis begins is printed first.
"""

import io
import os
import resource
import subprocess
import sys
import time
import warnings

import numpy as np
import torch
from torch import nn

from workers.analysis.job import analyse
from workers.protocol.progress import ProgressWriter

INPUTS, P, N = 64, 512, 20_000
CLASSES = (10, 1_000, 10_000)
MEMORY_BYTES = 8 << 30


def model(classes: int, p: int) -> io.BytesIO:
    """A network with one hidden layer, as TorchScript."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(INPUTS, p), nn.ReLU(), nn.Linear(p, classes)).eval()
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is; people still use it
        torch.jit.save(torch.jit.script(net), file)
    file.seek(0)
    return file


def probe(classes: int, n: int) -> io.BytesIO:
    """Inputs about class means, and labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, n)
    labels[0] = classes - 1
    means = rng.normal(size=(classes, INPUTS))
    inputs = (means[labels] + rng.normal(size=(n, INPUTS))).astype(np.float32)
    file = io.BytesIO()
    np.savez(file, x=inputs, y=labels)
    file.seek(0)
    return file


def peak_mib() -> float:
    """The most that this process had in memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(classes: int, p: int, n: int) -> None:
    """Analyse one network in this process, and print the cost."""
    files = (model(classes, p), probe(classes, n))
    before = peak_mib()
    arguments = {
        "spec": {},
        "eval_spec": None,
        "limits": {},
        "layers_bytes": 1 << 30,
        "memory_bytes": MEMORY_BYTES,
        "result_bytes": 1 << 30,
        "options": {},
    }
    reading, writing = os.pipe2(os.O_NONBLOCK)
    began, spent_before = time.monotonic(), time.process_time()
    result = analyse(arguments, files, ProgressWriter(writing))
    seconds, spent = time.monotonic() - began, time.process_time() - spent_before
    os.close(reading)
    timings = result.header["provenance"]["timings"]  # type: ignore[index,call-overload]  # JSON
    sizes = {name: len(content) / 2**20 for name, content in result.sections.items()}
    print(  # noqa: T201 - it is what the script is for
        f"C = {classes:,}, p = {p:,}, n = {n:,}: {seconds:.1f} s ({spent:.1f} s of CPU), "
        f"peak {peak_mib():,.0f} MiB ({before:,.0f} before); "
        + ", ".join(f"{stage} {each:.1f} s" for stage, each in timings.items())  # type: ignore[union-attr]  # JSON
        + "; "
        + ", ".join(f"{name} {size:,.1f} MiB" for name, size in sizes.items())
    )


if __name__ == "__main__":
    if len(sys.argv) > 2:
        measure(*map(int, sys.argv[1:]))
    else:
        for number in map(int, sys.argv[1:]) if sys.argv[1:] else CLASSES:
            sizes = [str(each) for each in (number, P, N)]
            subprocess.run([sys.executable, __file__, *sizes], check=True)

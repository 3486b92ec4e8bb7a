"""What the walls cost: a job's start, a small job, and a network's forward pass in a child.

Run it by hand: `python -m tests.benchmarks.walls_cost`. Inside and outside take turns, and the
median of their ratios is printed, since machines drift.
"""

import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import JsonValue

from tests.benchmarks.layers_cost import resnet18
from workers.protocol.requests import JobLimits, JobRequest
from workers.protocol.result import JobResult
from workers.runner.outcome import Outcome, Succeeded
from workers.runner.supervisor import Runner

REPEATS = 9
PASSES = 8


def forward_seconds() -> float:
    """Processor time of some forward passes of ResNet-18 on 32 small images."""
    torch.manual_seed(0)
    net, images = resnet18().eval(), torch.randn(32, 3, 32, 32)
    with torch.inference_mode():
        net(images)
        began = time.process_time()
        for _ in range(PASSES):
            net(images)
        return time.process_time() - began


def nothing(_arguments: Mapping[str, JsonValue], *_: object) -> JobResult:
    """The smallest job."""
    return JobResult({})


def forward(_arguments: Mapping[str, JsonValue], *_: object) -> JobResult:
    """The same passes as outside."""
    return JobResult({"seconds": forward_seconds()})


JOBS = {"nothing": nothing, "forward": forward}


def run(runner: Runner, kind: str) -> Succeeded:
    """Run a job that is to succeed."""
    outcome: Outcome = runner.run(
        JobRequest(kind=kind), [], deadline_s=120, limits=JobLimits(), on_tick=lambda _: True
    )
    assert isinstance(outcome, Succeeded), outcome
    return outcome


def main() -> None:
    """Print the three figures."""
    torch.set_num_threads(1)
    root = Path(__file__).parents[2]
    with Runner(f"{__spec__.name}:JOBS", environment={"PYTHONPATH": str(root)}) as runner:
        run(runner, "nothing")
        forks, small = [], []
        for _ in range(50):
            began = time.perf_counter()
            forks.append(run(runner, "nothing").ended.fork_seconds)
            small.append(time.perf_counter() - began)
        ratios = []
        for _ in range(REPEATS):
            outside = forward_seconds()
            inside = run(runner, "forward").header["seconds"]
            assert isinstance(inside, float)
            ratios.append(inside / outside)
    print(  # noqa: T201 - it is what the script is for
        f"request → child {1e3 * statistics.median(forks):.1f} ms; smallest job, end to end, "
        f"{1e3 * statistics.median(small):.1f} ms; forward pass inside/outside "
        f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    )


if __name__ == "__main__":
    main()

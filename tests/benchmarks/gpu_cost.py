"""What a GPU costs a job: a context of its own, and a forward pass behind the walls.

Run it by hand on a machine with a GPU: `python -m tests.benchmarks.gpu_cost`.
"""

import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import JsonValue

from tests.benchmarks.layers_cost import resnet18
from tests.benchmarks.walls_cost import nothing
from workers.child import gpu
from workers.protocol.requests import JobLimits, JobRequest
from workers.protocol.result import JobResult
from workers.runner.outcome import Succeeded
from workers.runner.supervisor import Runner

REPEATS = 9
PASSES = 20


def forward_seconds() -> float:
    """Time of some forward passes of ResNet-18 on 256 small images, after a first one."""
    torch.manual_seed(0)
    net, images = resnet18().eval().cuda(), torch.randn(256, 3, 32, 32).cuda()
    with torch.inference_mode():
        net(images)
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(PASSES):
            net(images)
        torch.cuda.synchronize()
        return time.perf_counter() - began


def forward(_arguments: Mapping[str, JsonValue], *_: object) -> JobResult:
    """The same passes as outside."""
    return JobResult({"seconds": forward_seconds()})


JOBS = {"nothing": nothing, "forward": forward}


def run(runner: Runner, kind: str, device: str) -> tuple[Succeeded, float]:
    """Run a job that is to succeed, and time it."""
    request = JobRequest.model_validate({"kind": kind, "device": device})
    began = time.perf_counter()
    outcome = runner.run(request, [], deadline_s=120, limits=JobLimits(), on_tick=lambda _: True)
    seconds = time.perf_counter() - began
    assert isinstance(outcome, Succeeded), outcome
    return outcome, seconds


def main() -> None:
    """Print the figures."""
    torch.set_num_threads(1)
    root = Path(__file__).parents[2]
    environment = {"PYTHONPATH": str(root)}
    with Runner(f"{__spec__.name}:JOBS", environment=environment, device="cuda") as runner:
        run(runner, "nothing", "cuda")
        small = {
            device: statistics.median(run(runner, "nothing", device)[1] for _ in range(REPEATS))
            for device in ("cpu", "cuda")
        }
        gpu.open_context()
        ratios = []
        for _ in range(REPEATS):
            outside = forward_seconds()
            inside = run(runner, "forward", "cuda")[0].header["seconds"]
            assert isinstance(inside, float)
            ratios.append(inside / outside)
    print(  # noqa: T201 - it is what the script is for
        f"{torch.cuda.get_device_name()}: smallest job, end to end, {small['cuda']:.2f} s with a "
        f"GPU, {small['cpu']:.3f} s without; forward pass inside/outside "
        f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    )


if __name__ == "__main__":
    main()

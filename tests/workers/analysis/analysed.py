"""The main job without a child around it: a model and a probe in, the report's figures out."""

import io
import json
import os
from typing import Any

import numpy as np
import pytest
import torch
from support import npz, traced
from torch import Tensor, nn

from service.contract.failures import Failure
from workers.analysis.job import analyse
from workers.protocol.errors import JobError
from workers.protocol.progress import ProgressWriter

_BYTES = 1 << 30


def analysed(
    model: nn.Module | bytes,
    probe: dict[str, np.ndarray],
    *,
    eval_probe: dict[str, np.ndarray] | None = None,
    spec: dict[str, Any] | None = None,
    eval_spec: dict[str, Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """What the job's result says of an archive, or of a model that is traced for it.

    Both specs are the same unless both are given.

    Raises:
        JobError: As the job.
    """
    archive = model if isinstance(model, bytes) else _traced(model, probe)
    files = [io.BytesIO(archive), io.BytesIO(npz(**probe))]
    if eval_probe is not None:
        files.append(io.BytesIO(npz(**eval_probe)))
    arguments = {
        "spec": spec or {},
        "eval_spec": None if eval_probe is None else spec or {} if eval_spec is None else eval_spec,
        "limits": {},
        "layers_bytes": _BYTES,
        "memory_bytes": 4 * _BYTES,
        "result_bytes": _BYTES,
        "options": options,
    }
    reading, writing = os.pipe2(os.O_NONBLOCK)
    try:
        result = analyse(arguments, files, ProgressWriter(writing))
    finally:
        os.close(reading)
        os.close(writing)
    header: dict[str, Any] = json.loads(json.dumps(result.header, allow_nan=False))
    return header


def _traced(model: nn.Module, probe: dict[str, np.ndarray]) -> bytes:
    return traced(model, torch.from_numpy(next(iter(probe.values()))[:2]))


def refused(model: nn.Module | bytes, probe: dict[str, np.ndarray], **rest: Any) -> Failure:
    """Why an analysis is refused, and what to do."""
    with pytest.raises(JobError) as caught:
        analysed(model, probe, **rest)
    failure = caught.value.failure
    assert failure.hint
    return failure


class Network(nn.Module):
    """Features, a head, and a link on what it gives.

    Args:
        inputs: Numbers a sample.
        outputs: Outputs of the head.
        link: What is done to them.
        gain: The head's weights are so much larger.
    """

    def __init__(
        self, inputs: int, outputs: int, link: Any, *, features: int = 16, gain: float = 4.0
    ) -> None:
        super().__init__()
        torch.manual_seed(outputs)
        self.trunk = nn.Linear(inputs, features)
        self.head = nn.Linear(features, outputs)
        with torch.no_grad():
            self.head.weight *= gain
        self.link = link

    def phi(self, x: Tensor) -> Tensor:
        return torch.relu(self.trunk(x))

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.link(self.head(self.phi(x)))
        return answer

    @torch.inference_mode()
    def answers(self, x: np.ndarray) -> Tensor:
        """What the model returns, float64."""
        return self(torch.from_numpy(x)).double()

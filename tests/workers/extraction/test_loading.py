"""Opening archives where they are to run."""

import io

import pytest
import torch
from zoo import CASES, Accepted, Case

from workers.errors import JobError
from workers.extraction.loading import is_bound_to_cpu, load_model

QUANTIZED = ("dynamic-", "dynamichalf-", "dynamichead-", "staticmlp-", "staticcnn-")
SCRIPTS = [
    case
    for case in CASES
    if isinstance(case.expected, Accepted)
    and case.name.startswith((*QUANTIZED, "headed-", "resnet-"))
    and "export" not in case.name
]


@pytest.mark.parametrize("case", SCRIPTS, ids=lambda case: case.name)
def test_packed_weights_are_bound_to_the_cpu(case: Case) -> None:
    model = load_model(io.BytesIO(case.archive))
    assert isinstance(model, torch.jit.ScriptModule)
    assert is_bound_to_cpu(model) == case.name.startswith(QUANTIZED)


@pytest.mark.parametrize(
    "case",
    [case for case in SCRIPTS if case.name.startswith(QUANTIZED)],
    ids=lambda case: case.name,
)
def test_they_are_not_loaded_to_a_gpu(case: Case) -> None:
    """It would end the process."""
    with pytest.raises(JobError, match="packed for a CPU"):
        load_model(io.BytesIO(case.archive), "cuda")

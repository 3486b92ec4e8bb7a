"""Every model of the zoo on a GPU: its features are those that its author knows, or it says why."""

import io

import pytest
import torch
from test_zoo import ACCEPTED, assert_near
from zoo import QUANTIZED
from zoo.case import DISCOVERY_ROWS, FRESH_ROWS

from service.contract.options import FeatureMapChoice
from tests.gpu.conftest import HAS_GPU
from workers.child import gpu
from workers.extraction import discover, load_model
from workers.protocol.errors import JobError


@pytest.fixture(scope="module", autouse=True)
def full_precision() -> None:
    """As in a child."""
    gpu.open_context()


AT_HOME = {"cells-scripted", "written-scripted", "written-frozen"}
"""They make their first state themselves, and do not say where: scripted code means the CPU then.

What says that it wants the CPU, as traced code does, is made to want the GPU.
"""


@pytest.mark.parametrize("name", ACCEPTED if HAS_GPU else ["each of them"])
def test_finds_on_a_gpu_what_the_models_author_knows(name: str) -> None:
    case = ACCEPTED[name]
    choice = case.expected.choice
    first = tuple(tensor.cuda() for tensor in case.batch(DISCOVERY_ROWS))
    declared = FeatureMapChoice(**choice) if choice else None
    if name.startswith(QUANTIZED) or name in AT_HOME:
        with pytest.raises(JobError):
            discover(load_model(io.BytesIO(case.archive), "cuda"), first, declared)
        return
    extractor = discover(load_model(io.BytesIO(case.archive), "cuda"), first, declared)
    for rows in (DISCOVERY_ROWS, FRESH_ROWS):
        given = case.batch(rows)
        truth = case.truth(given)
        extracted = extractor.run(given)
        assert extracted.phi.device == torch.device("cpu")
        assert_near(extracted.phi, truth.phi, case.expected.precision)
        assert_near(extracted.outputs, truth.outputs, case.expected.precision)

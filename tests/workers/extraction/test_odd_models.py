"""Whatever a model does, its owner is told what and what to do, and nothing of Python's.

Each is analysed as the product does it, in a confined child.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import odd_models as models
import pytest
import torch
from support import npz, read_only
from torch import nn
from zoo.saving import save

from service.contract.failures import Failure
from service.contract.options import Options
from service.contract.probe_spec import ProbeSpec
from workers.protocol.arguments import AnalysisArguments, ProbeLimits
from workers.protocol.requests import JobLimits, JobRequest
from workers.runner.outcome import Failed
from workers.runner.supervisor import Runner

pytestmark = pytest.mark.xdist_group("odd models")

HALF_GIB = 1 << 29
X = np.random.default_rng(0).standard_normal((300, 12)).astype(np.float32)
X[290, 0] = 1000  # in a batch after the first
PROBE = npz(x=X, y=np.arange(300) % 4)
SPEC = ProbeSpec(format="npz", input="x", target="y", task="classification", transform={})
PYTHONIC = re.compile(
    r"\w+(Error|Exception)\b(?!: scores)|Traceback|<--- HERE|enforce fail|NoneType|/\w+/\w+"
)

# code, words of the message, words of the hint.
TOLD: dict[type[nn.Module], tuple[str, str, str]] = {
    models.NoForward: ("not_a_model", "no method `forward`", "whose forward calls"),
    models.SaysManyLines: ("input_mismatch", "Expected columns of seconds, not of hours.", ""),
    models.Asserts: ("input_mismatch", "seven sensors", ""),
    models.AssertsSilently: ("input_mismatch", "an assertion in its code does not hold", ""),
    models.Inverts: ("unsupported_model", "linalg.inv: The diagonal element 1", "no inverse"),
    models.Factorises: ("unsupported_model", "linalg.cholesky: The fact", "no inverse"),
    models.InvertsLate: ("unsupported_model", "linalg.inv: ", "no inverse"),
    models.Diagonalises: ("unsupported_model", "linalg.eigh: ", "no inverse"),
    models.Allocates: ("out_of_memory", "ran out of memory", "smaller batch"),
    models.AllocatesLate: ("out_of_memory", "ran out of memory", "smaller batch"),
    models.Grows: ("out_of_memory", "ran out of memory", "smaller batch"),
    models.Overflows: ("input_mismatch", "Storage size calculation overflowed", ""),
    models.UsesGpu: ("unsupported_model", "Cannot initialize CUDA", "save it again"),
    models.SelectsBeyond: ("input_mismatch", "The size of tensor a", ""),
    models.LooksUpBeyond: ("input_mismatch", "index out of range in self", "vocabulary"),
    models.Divides: ("input_mismatch", "division by 0", ""),
    models.MissesKey: ("input_mismatch", "scores", ""),
    models.Images: ("input_mismatch", "Expected 3D (unbatched) or 4D (batched) input", ""),
    models.Quantised: ("input_mismatch", "Could not run 'quantized::relu6'", ""),
    models.NeedsNumber: ("input_mismatch", "argument `k` of type int", "takes tensors"),
    models.TakesNothing: ("input_mismatch", "", ""),
    models.TakesText: ("input_mismatch", "List[str]", "takes tensors"),
    models.GivesText: ("unsupported_model", "returned a text", "float tensor of n rows"),
    models.GivesNothing: ("unsupported_model", "returned nothing", "float tensor of n rows"),
    models.GivesClasses: ("unsupported_model", "dtype int64", "float tensor of n rows"),
    models.GivesEmpty: ("unsupported_model", "shape [0, 4]", "float tensor of n rows"),
    models.GivesList: ("unsupported_model", "a collection of 100 items", "float tensor"),
    models.GivesNan: ("non_finite", "NaN", ""),
    models.NanInside: ("non_finite", "NaN or infinite values in Φ", "diverged"),
    models.Enormous: ("non_finite", "too large to be squared", "transform"),
    models.Sparse: ("unsupported_model", "a sparse tensor", "float tensor of n rows"),
    models.Complex: ("unsupported_model", "complex64", "float tensor of n rows"),
    models.Random: ("unsupported_model", "draws random numbers", "same answer every time"),
    models.OneByOne: ("input_mismatch", "one sample at a time", ""),
    models.Reshapes: ("input_mismatch", "is invalid for input of size", ""),
    models.ByAutocast: ("not_a_model", "torch.autocast", "as constants"),
    models.Splits: ("input_mismatch", "Expected 2 elements in a list but found 3", ""),
    models.Matmul: ("input_mismatch", "mat1 and mat2 shapes cannot be multiplied", ""),
    models.WrongDtype: ("input_mismatch", "must have the same dtype", ""),
}


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with Runner() as running:
        yield running


def failure(runner: Runner, archive: bytes) -> Failure:
    arguments = AnalysisArguments(
        spec=SPEC,
        eval_spec=None,
        limits=ProbeLimits(max_array_bytes=HALF_GIB),
        layers_bytes=HALF_GIB,
        memory_bytes=HALF_GIB,
        result_bytes=HALF_GIB,
        options=Options(),
    )
    with ExitStack() as opened:
        outcome = runner.run(
            JobRequest(kind="analyse", arguments=arguments.model_dump(mode="json")),
            [read_only(archive, opened), read_only(PROBE, opened)],
            deadline_s=600,
            limits=JobLimits(memory_bytes=HALF_GIB),
            on_tick=lambda _: True,
        )
    assert isinstance(outcome, Failed), outcome
    return outcome.failure


@pytest.mark.parametrize("kind", TOLD, ids=lambda kind: kind.__name__)
def test_its_owner_is_told_what_it_did(runner: Runner, kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive = save(kind().eval(), (torch.zeros(3, 12),), "scripted")
    code, says, advises = TOLD[kind]
    told = failure(runner, archive)
    assert told.code == code
    assert says in told.message
    assert told.hint
    assert advises in told.hint
    assert not PYTHONIC.search(f"{told.message} {told.hint}")
    assert len(told.message) < 900

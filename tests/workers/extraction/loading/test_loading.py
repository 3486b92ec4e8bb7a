"""Opening archives where they are to run."""

import io
import zipfile

import pytest
import torch
from support import multilayer, scripted
from zoo import CASES, QUANTIZED, Accepted, Case

from workers.extraction.loading.archives import is_bound_to_cpu, load_model
from workers.protocol.errors import JobError

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


@pytest.mark.parametrize(
    ("written", "instead", "said"),
    [
        (b"return", b"retrn", ""),
        (b"return", b"return (", ": expected ) but found 'def' here"),
        (b"torch.linear", b"torch.linnear", ": Unknown builtin op: aten::linnear."),
        (b"-> Tensor", b"-> Tensr", ": Unknown type name 'Tensr'"),
        (b"class", b"clas", ": Unexpected token in code import: ident"),
    ],
)
def test_a_program_that_cannot_be_compiled_is_told_as_one(
    written: bytes, instead: bytes, said: str
) -> None:
    changed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(scripted(multilayer()))) as whole,
        zipfile.ZipFile(changed, "w") as archive,
    ):
        for name in whole.namelist():
            content = whole.read(name)
            is_code = name.endswith(".py")
            archive.writestr(name, content.replace(written, instead) if is_code else content)
    with pytest.raises(JobError) as caught:
        load_model(changed)
    failure = caught.value.failure
    assert failure.code == "not_a_model"
    told = "torch could not load the file as a TorchScript archive: its program cannot be compiled"
    assert failure.message.startswith(told + said)
    assert said or failure.message == told
    assert "File" not in failure.message

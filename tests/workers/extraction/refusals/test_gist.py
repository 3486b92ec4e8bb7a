"""What is quoted of an error: the line that says what, whatever torch wraps around it."""

import io
import warnings

import pytest
import torch
from torch import Tensor, nn

from workers.extraction.refusals import gist
from workers.protocol.errors import is_out_of_memory


class Raises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] != 5:
            raise ValueError("Expected five columns,\nbut there are others.\n\nSee the docs.")
        return x


class Asserts(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[0] == 1, "one sample at a time"
        return x


class AssertsSilently(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[0] == 1
        return x


class Inverts(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.inv(torch.zeros(3, 3)) @ x.T


class Factorises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.cholesky(-torch.eye(3)) @ x.T


class Diagonalises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eigh(torch.full((3, 3), float("nan")))[1] @ x.T


class Convolves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class LooksUp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.table(x.long() + 100)


class Allocates(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(1 << 40, 100) + x.sum()


class Selects(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, 10]


class Divides(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0] // (x.shape[1] - 3), 2)


class MissesKey(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return {"logits": x}["scores"]


class Runs(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.quantized.relu6(x)


SAID = {
    Raises: "Expected five columns, but there are others.",
    Asserts: "one sample at a time",
    AssertsSilently: "an assertion in its code does not hold",
    Inverts: "linalg.inv: The diagonal element 1 is zero, the inversion could not be completed "
    "because the input matrix is singular.",
    Factorises: "linalg.cholesky: The factorization could not be completed because the input is "
    "not positive-definite (the leading minor of order 1 is not positive-definite).",
    Diagonalises: "linalg.eigh: The algorithm failed to converge because the input matrix is "
    "ill-conditioned or has too many repeated eigenvalues (error code: 2).",
    Convolves: "Expected 3D (unbatched) or 4D (batched) input to conv2d, but got input of size: "
    "[2, 3]",
    LooksUp: "index out of range in self",
    Selects: "select(): index 10 out of range for tensor of size [2, 3] at dimension 1",
    Divides: "division by 0",
    MissesKey: "KeyError: scores",
}


def error_of(model: nn.Module) -> Exception:
    """What a model raises as TorchScript, once saved and loaded."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(model.eval()), file)
        file.seek(0)
        loaded = torch.jit.load(file)
    with pytest.raises(Exception, match=r".") as caught, torch.inference_mode():
        loaded(torch.ones(2, 3))
    return caught.value


@pytest.mark.parametrize("kind", SAID, ids=lambda kind: kind.__name__)
def test_of_an_error_of_torchscript_its_message_is_quoted(kind: type[nn.Module]) -> None:
    assert gist(error_of(kind())) == SAID[kind]


def test_where_a_check_stands_is_left_out_and_want_of_memory_is_known() -> None:
    error = error_of(Allocates())
    assert is_out_of_memory(error)
    assert gist(error).startswith("DefaultCPUAllocator: can't allocate memory")


def test_lists_of_kernels_are_left_out() -> None:
    said = gist(error_of(Runs()))
    assert said.startswith("Could not run 'quantized::relu6'")
    assert "registered at" not in said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("[enforce fail at inline.cc:23] . The version 99 is new."), "The version 99"),
        (
            RuntimeError("\nUnknown op: a::b.\n\nThe call is:\n  ~~~ <--- HERE\n"),
            "Unknown op: a::b",
        ),
        (
            RuntimeError(
                'expected ) here:\nSerialized   File "code/a.py", line 1\n  x\n~ <--- HERE\n'
            ),
            "expected ) here",
        ),
        (RuntimeError("bad\nException raised from f at x.cpp:1:\nframe #0: y"), "bad"),
        (
            RuntimeError(
                'x INTERNAL ASSERT FAILED at "/a/b.cpp":1, please report a bug to PyTorch. No y'
            ),
            "No y",
        ),
        (OSError("cannot read /srv/secret/place/model.bin"), "cannot read model.bin"),
        (KeyError("scores"), "the key 'scores' is missing"),
        (ValueError(), "it gives no reason"),
        (ValueError("\x1b[31mred"), "\\x1b[31mred"),
        (RuntimeError("~ <--- HERE\nRuntimeError: " + "long " * 1000), "long long"),
    ],
)
def test_other_errors_are_told_in_one_line(error: Exception, said: str) -> None:
    assert gist(error).startswith(said)
    assert "\n" not in gist(error)
    assert len(gist(error)) <= 301

"""What must not pass: each model that Φ cannot be taken from, its code and its message."""

import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from service.contract.failures import Failure, FailureCode
from workers.extraction import discover, load_model
from workers.extraction.refusals import printable
from workers.protocol.errors import JobError

Archive = Callable[..., nn.Module]


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(12, 16), nn.ReLU())
        self.fc = nn.Linear(16, 5)
        self.other = nn.Linear(16, 5)


class NoHead(Base):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cumsum(self.fc(self.trunk(x)), dim=1)


class Largest(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.trunk(x)).topk(2)[0]


class HandWrittenSoftmax(Base):
    def forward(self, x: Tensor) -> Tensor:
        e = torch.exp(self.fc(self.trunk(x)))
        return e / e.sum(dim=1, keepdim=True)


class Untouched(Base):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Constant(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.other.weight[: x.size(0)]


class BothFactors(Base):
    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return torch.mm(h, h.t())


class GroupedConvolution(Base):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 6, 1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.reshape(-1, 2, 6)).mean(2)


class Piecewise(Base):
    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        out = torch.zeros(x.size(0), 10)
        out[:, :5] = self.fc(h)
        out[:, 5:] = self.other(h)
        return out


class SoftmaxOverSamples(Base):
    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.fc(self.trunk(x)), dim=0)


class StepOfSoftmax(Base):
    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return torch.softmax(self.fc(torch.stack([h, torch.tanh(h)], dim=1)), dim=2)[:, 1]


class MeanOfClasses(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.trunk(x)).mean(dim=1)


class ScaledPerSample(Base):
    def __init__(self) -> None:
        super().__init__()
        self.row = nn.Parameter(torch.rand(16, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.trunk(x)) * self.row[: x.size(0)]


class SumOfHeads(Base):
    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return self.fc(h) + self.other(torch.tanh(h))


class JoinedHeads(Base):
    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return torch.cat([self.fc(h), self.other(torch.tanh(h))], dim=1)


class AroundTheHead(Base):
    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(x[:, :5], self.trunk(x), self.fc.weight.t())


class ReluBeforePooling(Base):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.adaptive_avg_pool1d(torch.relu(self.conv(x.unsqueeze(1))), 1).flatten(1)


class TwoOutputs(Base):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.trunk(x)
        return self.fc(h), self.other(h)


class TwoTokensOfOneHead(Base):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        u = self.fc(self.trunk(torch.stack([x, x + 1], dim=1)))
        return u[:, 0], u[:, 1]


class HeadOrSum(Base):
    """One output has a head; the other is a sum of heads, and may be the one that is meant."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.trunk(x)
        return self.fc(h) + self.other(h), self.other(h)


class NoOutput(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.trunk(x)).argmax(dim=1)


class TokensFirst(Base):
    """Answers for each token, tokens before samples."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.trunk(torch.stack([x, x + 1], dim=0)))


class TokensInARow(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.trunk(torch.stack([x, x + 1], dim=1))).flatten(0, 1)


class MeanOverBatch(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.trunk(x)).mean(dim=0, keepdim=True)


class Bernoulli(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.bernoulli(torch.sigmoid(self.trunk(x))))


class Counting(Base):
    """Draws nothing, and yet answers differently each time."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1.0)
        return self.fc(self.trunk(x) * self.calls)


class BrokenHead(Base):
    def __init__(self) -> None:
        super().__init__()
        nn.init.constant_(self.fc.weight, float("nan"))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.trunk(x))


class BrokenTrunk(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.log(self.trunk(x) - 1.0))


REFUSED = [
    (NoHead, "head_not_found", "no_linear_head", "aten::cumsum"),
    (Largest, "head_not_found", "no_linear_head", "aten::topk"),
    (HandWrittenSoftmax, "head_not_found", "no_linear_head", "aten::div"),
    (Untouched, "head_not_found", "no_linear_head", "the model's input"),
    (Constant, "head_not_found", "no_linear_head", "does not depend on the model's input"),
    (BothFactors, "head_not_found", "no_linear_head", "both of its factors depend"),
    (GroupedConvolution, "head_not_found", "no_linear_head", "it has groups"),
    (Piecewise, "head_not_found", "no_linear_head", "fills a part of the output in place"),
    (SoftmaxOverSamples, "head_not_found", "no_linear_head", "runs over axis 0"),
    (StepOfSoftmax, "head_not_found", "no_linear_head", "picks positions of the outputs after"),
    (MeanOfClasses, "head_not_found", "no_linear_head", "reduces over the classes"),
    (ScaledPerSample, "head_not_found", "no_linear_head", "not one per class"),
    (SumOfHeads, "unsupported_model", "multiple_heads", "aten::add"),
    (JoinedHeads, "unsupported_model", "multiple_heads", "aten::cat"),
    (AroundTheHead, "unsupported_model", "multiple_heads", "aten::addmm"),
    (ReluBeforePooling, "unsupported_model", "nonlinear_pool", "after the nonlinearity relu"),
    (TwoOutputs, "unsupported_model", "ambiguous_output", "0, 1"),
    (TwoTokensOfOneHead, "unsupported_model", "ambiguous_output", "0, 1"),
    (HeadOrSum, "unsupported_model", "ambiguous_output", "0, 1"),
    (NoOutput, "unsupported_model", "bad_output", "a tensor of dtype int64"),
    (TokensFirst, "unsupported_model", "bad_output", "[2, 16, 5]"),
    (TokensInARow, "unsupported_model", "bad_output", "[32, 5]"),
    (MeanOverBatch, "unsupported_model", "bad_output", "[1, 5]"),
    (Bernoulli, "unsupported_model", "stochastic", "aten::bernoulli"),
    (Counting, "unsupported_model", "stochastic", "Two runs on the same batch"),
    (BrokenHead, "non_finite", "non_finite", "weights of the last linear layer"),
    (BrokenTrunk, "non_finite", "non_finite", "NaN or infinite values in Φ for"),
]


def refusal(run: Callable[[], object]) -> Failure:
    with pytest.raises(JobError) as caught:
        run()
    return caught.value.failure


@pytest.mark.parametrize("how", ["scripted", "traced", "frozen"])
@pytest.mark.parametrize(("model", "code", "detail", "says"), REFUSED)
def test_refuses(
    model: type[nn.Module], code: str, detail: str, says: str, *, how: str, archive: Archive
) -> None:
    if model is Counting and how == "frozen":
        pytest.skip("a frozen module has no state to change")
    torch.manual_seed(0)
    batch = torch.randn(16, 12)
    failure = refusal(lambda: discover(archive(model(), batch, how), (batch,)))
    assert (failure.code, failure.detail["code"]) == (code, detail)
    assert says in failure.message
    assert failure.hint


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.BatchNorm1d(16)])
def test_refuses_a_training_mode_that_eval_cannot_undo(layer: nn.Module, archive: Archive) -> None:
    net = nn.Sequential(nn.Linear(12, 16), layer, nn.Linear(16, 5))
    batch = torch.randn(16, 12)
    failure = refusal(lambda: discover(archive(net, batch, "traced", train=True), (batch,)))
    assert (failure.code, failure.detail["code"]) == ("unsupported_model", "train_mode_baked")
    assert "model.eval()" in (failure.hint or "")


def test_scripted_training_mode_is_undone_by_loading(archive: Archive) -> None:
    net = nn.Sequential(nn.Linear(12, 16), nn.Dropout(0.5), nn.Linear(16, 5))
    batch = torch.randn(16, 12)
    found = discover(archive(net, batch, train=True), (batch,)).feature_map
    assert found.location == "2.weight"


def test_wrong_input_shape_names_both_sides(archive: Archive) -> None:
    net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 5))
    model = archive(net, torch.randn(2, 12))
    failure = refusal(lambda: discover(model, (torch.randn(40, 7, 7),)))
    assert failure.code is FailureCode.INPUT_MISMATCH
    assert "shape [16, 7, 7] (float32)" in failure.message
    assert "mat1 and mat2 shapes cannot be multiplied" in failure.message
    assert "\n" not in failure.message
    assert "None of the usual conversions" in (failure.hint or "")
    assert failure.detail["inputs"] == [{"shape": [16, 7, 7], "dtype": "float32"}]


class Shouting(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.size(0) > 0:
            raise ValueError("\x1b[31mred")
        return x


def test_a_models_own_words_are_escaped(archive: Archive) -> None:
    batch = torch.ones(2, 3)
    failure = refusal(lambda: discover(archive(Shouting(), batch), (batch,)))
    assert failure.code is FailureCode.INPUT_MISMATCH
    assert "Its error: \\x1b[31mred" in failure.message


@pytest.mark.parametrize("text", ["a" * 5000, "\x00" * 5000, "\u202e" * 5000])
def test_foreign_texts_are_cut(text: str) -> None:
    shown = printable(text, 100)
    assert shown.isprintable()
    assert len(shown) == 101


def pickled_state() -> bytes:
    file = io.BytesIO()
    torch.save(nn.Linear(2, 2).state_dict(), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "advice"),
    [(b"", "torch.jit"), (b"not a model", "torch.jit"), (b"PK\x03\x04" + bytes(200), "Upload it")],
)
def test_not_a_model(content: bytes, advice: str) -> None:
    failure = refusal(lambda: load_model(io.BytesIO(content)))
    assert failure.code is FailureCode.NOT_A_MODEL
    assert failure.detail["code"] == "load_failed"
    assert advice in (failure.hint or "")


def test_a_state_dict_is_not_a_model() -> None:
    failure = refusal(lambda: load_model(io.BytesIO(pickled_state())))
    assert failure.code is FailureCode.NOT_A_MODEL
    assert "torch.save checkpoint" in failure.message
    assert "Load them into the model" in (failure.hint or "")

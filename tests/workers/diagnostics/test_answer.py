"""What an answer is recognised as, by what its link makes of outputs."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor
from torch.nn import functional

from workers.diagnostics import Answer, IncompatibleShapesError, LabelCounts, Performance, Task

Link = Callable[[Tensor], Tensor]


def of(link: Link, outputs: int, task: Task = "classification", dtype: str = "float32") -> Answer:
    return Answer.of_link(task, link, outputs, getattr(torch, dtype))


SEVERAL: dict[str, tuple[Link, str, int, str | None]] = {
    # The link, the answer, its sign, and the loss.
    "nothing": (lambda u: u + 0.0, "logits", 1, "cross_entropy"),
    "softmax": (lambda u: u.softmax(1), "probabilities of classes", 1, "cross_entropy"),
    "softmax in float16": (
        lambda u: u.softmax(1).half(),
        "probabilities of classes",
        1,
        "cross_entropy",
    ),
    "half a softmax": (
        lambda u: (u / 2).softmax(1),
        "probabilities of classes",
        0,
        "cross_entropy",
    ),
    "softmax over a floor": (
        lambda u: u.softmax(1).clamp(min=1e-5),
        "probabilities of classes",
        0,
        "cross_entropy",
    ),
    "log softmax": (
        lambda u: u.log_softmax(1),
        "log-probabilities of classes",
        1,
        "cross_entropy",
    ),
    "log of softmax": (
        lambda u: u.softmax(1).log(),
        "log-probabilities of classes",
        0,  # it is infinite where the logarithm of softmax is not
        "cross_entropy",
    ),
    "twice a softmax": (lambda u: 2 * u.softmax(1), "scores", 0, None),
    "sigmoid": (torch.sigmoid, "probabilities of each output", 1, "binary_cross_entropy"),
    "1 - sigmoid": (
        lambda u: 1 - torch.sigmoid(u),
        "probabilities of each output",
        0,  # in float32 it is 0 where the sigmoid of -u is not
        "binary_cross_entropy",
    ),
    "sigmoid over a floor": (
        lambda u: torch.sigmoid(u).clamp(1e-4, 1 - 1e-4),
        "probabilities of each output",
        0,
        "binary_cross_entropy",
    ),
    "log sigmoid": (
        functional.logsigmoid,
        "log-probabilities of each output",
        1,
        "binary_cross_entropy",
    ),
    "- softplus": (
        lambda u: -functional.softplus(u),
        "log-probabilities of each output",
        -1,
        "binary_cross_entropy",
    ),
    "sigmoid of different steepness": (
        lambda u: torch.sigmoid(u * torch.arange(1.0, u.shape[1] + 1)),
        "probabilities of each output",
        0,
        "binary_cross_entropy",
    ),
    "clamped to [0, 1]": (
        lambda u: u.clamp(0, 1),
        "probabilities of each output",
        0,
        "binary_cross_entropy",
    ),
    "yes or no": (lambda u: (u > 0.3).float(), "decisions", 0, None),
    "yes or no as bool": (lambda u: u > 0.3, "decisions", 0, None),
    "capped": (lambda u: 30 * torch.tanh(u / 30), "logits", 0, "cross_entropy"),
    "falling": (lambda u: -2 * u - torch.tanh(u), "logits", 0, "cross_entropy"),
    "cut off": (lambda u: u.clamp(-100, 100), "logits", 0, "cross_entropy"),
    "tanh": (torch.tanh, "signed scores", 0, None),
    "sign": (torch.sign, "signed scores", 0, None),
    "relu": (torch.relu, "scores", 0, None),
    "softplus": (functional.softplus, "scores", 0, None),
    "exp": (torch.exp, "scores", 0, None),
    "square root": (torch.sqrt, "scores", 0, None),
    "sine": (torch.sin, "scores", 0, None),
}


@pytest.mark.parametrize("outputs", [2, 5, 70])
@pytest.mark.parametrize("name", SEVERAL)
def test_several_outputs(name: str, outputs: int) -> None:
    link, answer, sign, kind = SEVERAL[name]
    found = of(link, outputs)
    assert (found.name, found.sign, found.loss_kind) == (answer, sign, kind)


@pytest.mark.parametrize(
    ("link", "outputs"),
    [
        (lambda u: (u.softmax(1) * 100).round() / 100, 4),
        (lambda u: (1 - u.softmax(1))[:, :2], 3),
        *((lambda u: u.softmax(1).clamp(0.05, 0.95), outputs) for outputs in (3, 70)),
        *((lambda u: u.softmax(1).square(), outputs) for outputs in (3, 70)),
        *((lambda u: 1 - u.softmax(1), outputs) for outputs in (3, 70)),
    ],
)
def test_parts_of_a_softmax_that_do_not_sum_to_one_have_no_loss(link: Link, outputs: int) -> None:
    found = of(link, outputs)
    assert (found.name, found.loss_kind) == ("scores", None)
    u = torch.linspace(-3, 3, 10 * outputs).view(10, outputs).roll(1, 0)
    decided = found.decide(found.values(u, link(u)))
    assert decided is not None
    assert torch.equal(decided, link(u).argmax(1))


def test_parts_of_sigmoids_are_each_for_itself() -> None:
    found = of(lambda u: torch.sigmoid(u)[:, 1:], 4)
    assert found.name == "probabilities of each output"
    assert found.loss_kind == "binary_cross_entropy"


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
@pytest.mark.parametrize("name", ["softmax", "log softmax", "sigmoid", "1 - sigmoid", "tanh"])
def test_in_any_precision(name: str, dtype: str) -> None:
    link, answer, _, kind = SEVERAL[name]
    found = of(link, 10, dtype=dtype)
    assert (found.name, found.loss_kind) == (answer, kind)


def test_a_language_models_outputs_are_told_in_little_memory() -> None:
    assert of(lambda u: u.log_softmax(1), 65_536).name == "log-probabilities of classes"


@pytest.mark.parametrize(
    ("link", "threshold"),
    [
        (lambda u: u, 0.0),
        (torch.sigmoid, 0.5),
        (lambda u: 1 - torch.sigmoid(u), 0.5),
        (functional.logsigmoid, math.log(0.5)),
        (torch.tanh, 0.0),
        (lambda u: (u > 0).float(), 0.5),
    ],
)
def test_one_output_decides_where_its_form_says(link: Link, threshold: float) -> None:
    answer = of(link, 1)
    u = torch.linspace(-4, 4, 80)[:, None]
    values = answer.values(u, link(u))
    decided = answer.decide(values)
    assert decided is not None
    assert torch.equal(decided, (link(u)[:, 0] > threshold).long())


def test_certain_outputs_are_alike_in_what_the_model_returns() -> None:
    answer = of(torch.sigmoid, 3)
    u = torch.tensor([[20.0, 30.0, 0.0], [-1.0, 2.0, 3.0]])
    assert answer.sign == 1
    decided = answer.decide(answer.values(u, torch.sigmoid(u)))
    assert decided is not None
    assert decided.tolist() == torch.sigmoid(u).argmax(1).tolist() == [0, 2]
    measured = answer.measure(answer.values(u, torch.sigmoid(u)), torch.eye(3)[[0, 2]])
    assert measured.accuracy == 1.0
    wanted = functional.binary_cross_entropy_with_logits(u.double(), torch.eye(3)[[0, 2]].double())
    assert measured.loss == pytest.approx(float(wanted))


@pytest.mark.parametrize("link", [torch.abs, torch.exp, functional.softplus, torch.relu])
def test_one_output_without_a_threshold_decides_nothing(link: Link) -> None:
    answer = of(link, 1)
    u = torch.linspace(-4, 4, 10)[:, None]
    values = answer.values(u, link(u))
    assert answer.decide(values) is None
    measured = answer.measure(values, torch.eye(2)[torch.arange(10) % 2])
    assert (measured.n, measured.accuracy, measured.loss) == (10, None, None)


def test_labels_are_judged_by_their_own_probabilities_even_of_a_softmax() -> None:
    answer = of(lambda u: u.softmax(1), 3, "multilabel")
    assert (answer.sign, answer.exclusive, answer.loss_kind) == (0, True, "binary_cross_entropy")
    u = torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.1, 0.0]])
    f = u.softmax(1)
    wanted = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    measured = answer.measure(answer.values(u, f), wanted)
    assert measured.accuracy == pytest.approx(5 / 6)
    expected = functional.binary_cross_entropy(f, wanted)
    assert measured.loss == pytest.approx(float(expected), rel=1e-6)


def test_impossible_and_certain_answers_cost_a_finite_loss() -> None:
    tiny = math.log(torch.finfo(torch.float32).tiny)
    for link in (lambda u: u.clamp(0, 1), lambda u: u.clamp(0, 1).log()):
        answer = of(link, 1)
        f = link(torch.tensor([[0.0], [1.0], [1.0]]))
        measured = answer.measure(answer.values(f, f), torch.eye(2)[[1, 0, 1]])
        assert answer.name.endswith("of each output") == (answer.loss_kind is not None)
        if answer.loss_kind:
            assert measured.loss == pytest.approx(-2 * tiny / 3)


def test_infinite_values_leave_the_loss_open_for_good() -> None:
    answer = of(torch.exp, 2, "regression")
    infinite = answer.measure(torch.tensor([[math.inf, 0.0]]).double(), torch.zeros(1, 2))
    finite = answer.measure(torch.ones(3, 2).double(), torch.zeros(3, 2))
    assert (infinite + finite).loss is None
    assert (Performance() + finite).loss == 1.0


def test_fewer_outputs_than_labels_are_refused() -> None:
    answer = of(torch.sigmoid, 2, "multilabel")
    with pytest.raises(IncompatibleShapesError, match="2 outputs, the probe 3 labels"):
        answer.measure(torch.zeros(4, 2).double(), torch.zeros(4, 3))


def test_counts_of_labels_add_and_give_balanced_accuracy() -> None:
    rng = np.random.default_rng(0)
    wanted = rng.random((200, 6)) < (0.0, 0.01, 0.1, 0.5, 0.9, 1.0)
    decided = wanted ^ (rng.random(wanted.shape) < 0.2)
    parts = [
        LabelCounts.of(torch.from_numpy(decided[rows]), torch.from_numpy(wanted[rows]))
        for rows in (slice(0, 70), slice(70, 200))
    ]
    counts = parts[0] + parts[1]
    assert counts.right == (decided == wanted).sum()
    assert counts.subset_accuracy == (decided == wanted).all(1).mean()
    both = [j for j in range(6) if 0 < wanted[:, j].sum() < 200]
    expected = np.mean(
        [balanced_accuracy_score(wanted[:, j], decided[:, j], adjusted=True) for j in both]
    )
    assert counts.informedness == pytest.approx(expected)


def test_guessing_labels_has_no_informedness() -> None:
    wanted = torch.rand(4000, 3) < torch.tensor([0.05, 0.5, 0.95])
    for guess in (torch.zeros_like(wanted), torch.ones_like(wanted)):
        assert LabelCounts.of(guess, wanted).informedness == 0.0
    assert LabelCounts.of(wanted, wanted).informedness == 1.0
    assert LabelCounts.of(wanted[:, :0], wanted[:, :0]).informedness is None

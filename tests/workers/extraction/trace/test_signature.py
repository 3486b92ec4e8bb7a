"""How models are called: truth is the eager model, called as its author calls it."""

import io
from typing import Any

import pytest
import torch
from support import quiet, scripted
from torch import Tensor, nn

from service.contract.failures import FailureCode
from workers.extraction import discover, load_model
from workers.extraction.fit.recording import batch_limits
from workers.extraction.trace.signature import Called, read_arguments, tensor_positions
from workers.protocol.errors import JobError

BATCH = torch.export.Dim("batch")
X = torch.randn(24, 12, generator=torch.Generator().manual_seed(0))


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(12, 16)
        self.head = nn.Linear(16, 4)

    def phi(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x))


class Keyword(Base):
    def forward(self, *, x: Tensor) -> Tensor:
        return self.head(self.phi(x))


class Dictionary(Base):
    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"logits": self.head(self.phi(batch["x"] + batch["more"]))}


class List(Base):
    def forward(self, images: list[Tensor]) -> Tensor:
        return self.head(self.phi(images[0] + 2 * images[1]))


class Tuple(Base):
    def forward(self, pair: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
        return self.head(self.phi(pair[0] + 2 * pair[1] + 3 * x))


class Flags(Base):
    def forward(
        self,
        x: Tensor,
        scale: float | None = None,
        flag: bool = False,
        steps: int = 1,
        mask: Tensor | None = None,
    ) -> Tensor:
        x = x if scale is None else x * scale
        for _ in range(steps):
            x = x + 1
        x = x if mask is None else x * mask
        return self.head(self.phi(-x if flag else x))


class Nested(Base):
    def forward(self, batch: dict[str, Any], *, extra: list[Tensor]) -> Tensor:
        return self.head(self.phi(batch["views"][0] + batch["views"][1] * 2 + extra[0]))


def exported(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None, shapes: Any
) -> nn.Module:
    file = io.BytesIO()
    program = torch.export.export(model.eval(), args, kwargs, dynamic_shapes=shapes)
    torch.export.save(program, file)
    file.seek(0)
    return load_model(file)


FREE = {0: BATCH}
SMALL = X[:3]
# torch.export takes one tensor that is given twice for a single input.
OTHER, THIRD = SMALL.clone(), SMALL.clone()
CALLS: list[Any] = [
    pytest.param(Keyword, (), {"x": SMALL}, {"x": FREE}, ["x"], lambda m, a: m.phi(a), id="kwarg"),
    pytest.param(
        Dictionary, ({"x": SMALL, "more": OTHER},), None, ({"x": FREE, "more": FREE},),
        ["batch.x", "batch.more"], lambda m, a, b: m.phi(a + b), id="dict",
    ),
    pytest.param(
        List, ([SMALL, OTHER],), None, ([FREE, FREE],), ["images.0", "images.1"],
        lambda m, a, b: m.phi(a + 2 * b), id="list",
    ),
    pytest.param(
        Tuple, ((SMALL, OTHER), THIRD), None, ((FREE, FREE), FREE), ["pair.0", "pair.1", "x"],
        lambda m, a, b, c: m.phi(a + 2 * b + 3 * c), id="tuple",
    ),
    pytest.param(
        Flags, (SMALL, None, True), None, (FREE, None, None), ["x"],
        lambda m, a: m.phi(-(a + 1)), id="none-and-flag",
    ),
    pytest.param(
        Flags, (SMALL, 0.5), {"steps": 3}, {"x": FREE, "scale": None, "steps": None}, ["x"],
        lambda m, a: m.phi(a * 0.5 + 3), id="numbers",
    ),
    pytest.param(
        Flags, (SMALL,), {"mask": OTHER}, {"x": FREE, "mask": FREE}, ["x", "mask"],
        lambda m, a, b: m.phi((a + 1) * b), id="optional-tensor",
    ),
    pytest.param(
        Nested, ({"views": [SMALL, OTHER]},), {"extra": [THIRD]},
        {"batch": {"views": [FREE, FREE]}, "extra": [FREE]},
        ["batch.views.0", "batch.views.1", "extra.0"],
        lambda m, a, b, c: m.phi(a + 2 * b + c), id="nested",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "args", "kwargs", "shapes", "names", "phi"), CALLS)
def test_an_exported_program_is_called_as_it_was_exported(  # noqa: PLR0917 - a row of a table
    kind: type[Base], args: Any, kwargs: Any, shapes: Any, names: list[str], phi: Any
) -> None:
    model = kind()
    loaded = exported(model, args, kwargs, shapes)
    arguments = read_arguments(loaded)
    given = tensor_positions(arguments)
    assert [arguments[position].name for position in given] == names
    batch = tuple(X * (k + 1) for k in range(len(given)))
    extractor = discover(Called(loaded, given), batch)
    assert extractor.feature_map.location.endswith("head.weight")
    with torch.inference_mode():
        expected = phi(model, *batch)
        again = extractor.run(batch).phi
    torch.testing.assert_close(again, expected)


def test_what_a_program_was_exported_with_is_told() -> None:
    shapes = (FREE, None, None)
    arguments = read_arguments(exported(Flags(), (SMALL, None, True), None, shapes))
    told = [(argument.type, argument.default) for argument in arguments]
    assert told == [("Tensor", None), ("NoneType", "None"), ("bool", "True")]


@pytest.mark.parametrize(
    ("fewest", "most", "words"),
    [
        (2, 10, "takes 2 to 10 samples"),
        (20, None, "takes at least 20"),
        (6, 6, "exactly 6"),
        (2, 20, ""),
        (10, 64, ""),
    ],
)
def test_the_sizes_of_batches_are_told_as_they_are(
    fewest: int, most: int | None, words: str
) -> None:
    model = Keyword()
    example = X[: max(fewest, 3)]
    shapes = None
    if fewest != most:
        shapes = {"x": {0: torch.export.Dim("size", min=fewest, max=most)}}
    loaded = Called(exported(model, (), {"x": example}, shapes), [0])
    assert batch_limits(loaded) == (fewest, most)
    extractor = discover(loaded, (X,))
    assert not words or any(words in warning for warning in extractor.feature_map.warnings)
    for batch in (X, X[:3], torch.cat([X, X, X])):
        with torch.inference_mode():
            torch.testing.assert_close(extractor.run((batch,)).phi, model.phi(batch))


def test_optional_arguments_of_scripts_are_given_by_name() -> None:
    model = Flags()
    with quiet():
        loaded = load_model(io.BytesIO(scripted(model)))
    arguments = read_arguments(loaded)
    assert tensor_positions(arguments) == [0, 4]
    extractor = discover(Called(loaded, [0, 4]), (X, X))
    with torch.inference_mode():
        torch.testing.assert_close(extractor.run((X, X)).phi, model.phi((X + 1) * X))


def test_a_module_without_arguments_is_refused() -> None:
    class Nothing(nn.Module):
        def forward(self) -> Tensor:
            return torch.zeros(1)

    with pytest.raises(JobError, match="takes no tensor") as caught:
        tensor_positions(read_arguments(load_model(io.BytesIO(scripted(Nothing())))))
    assert caught.value.failure.code == FailureCode.INPUT_MISMATCH

"""Which array each argument of a model gets: truth is the model's own features in eager mode."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from giving import close, give, refused, specs_in
from support import scripted, traced
from torch import Tensor, nn

ROWS = 60
RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 50, (ROWS, 7))
MASK = (np.arange(7) < RNG.integers(2, 8, (ROWS, 1))).astype(np.int64)
TYPES = RNG.integers(0, 2, (ROWS, 7))
LABELS = np.arange(ROWS) % 4
VECTORS = RNG.standard_normal((ROWS, 7)).astype(np.float32)


class Tokens(nn.Module):
    """Words of two types, averaged where the mask holds; the order is that of an old library."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(50, 16)
        self.types = nn.Embedding(2, 16)
        self.head = nn.Linear(16, 4)

    def phi(self, ids: Tensor, types: Tensor, mask: Tensor) -> Tensor:
        weights = torch.softmax((mask - 1) * 10000.0, 1).unsqueeze(-1)
        return (torch.tanh(self.words(ids) + self.types(types)) * weights).sum(1)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.head(self.phi(input_ids, token_type_ids, attention_mask))


class Nameless(Tokens):
    def forward(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return self.head(self.phi(a, b, c))


def tokens_phi(model: Tokens) -> Tensor:
    with torch.inference_mode():
        return model.phi(*map(torch.tensor, (IDS, TYPES, MASK)))


ARRAYS = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": TYPES}


@pytest.mark.parametrize("order", list(itertools.permutations(ARRAYS)))
@pytest.mark.parametrize("how", ["scripted", "traced"])
def test_arrays_go_to_the_arguments_of_their_names(order: tuple[str, ...], how: str) -> None:
    model = Tokens().eval()
    example = [torch.tensor(a[:3]) for a in (IDS, TYPES, MASK)]
    archive = scripted(model) if how == "scripted" else traced(model, *example)
    given = give(archive, **{name: ARRAYS[name] for name in order}, labels=LABELS)
    assert close(given.phi, tokens_phi(model))
    assert given.arrays == {name: name for name in given.arrays}
    assert not given.fitted.warnings


def test_a_spec_that_contradicts_the_names_is_followed_and_said() -> None:
    model = Tokens().eval()
    given = give(model, {"input": ["input_ids", "attention_mask", "token_type_ids"]}, **ARRAYS)
    with torch.inference_mode():
        expected = model.phi(*map(torch.tensor, (IDS, MASK, TYPES)))
    assert close(given.phi, expected)
    (warning,) = given.fitted.warnings
    assert warning.startswith("argument_names: ")
    assert "'attention_mask' to the model's argument 'token_type_ids'" in warning


def test_an_object_names_the_array_of_each_argument() -> None:
    model = Tokens().eval()
    spec = {"input": {"attention_mask": "m", "input_ids": "i", "token_type_ids": "t"}}
    given = give(model, spec, m=MASK, t=TYPES, i=IDS)
    assert close(given.phi, tokens_phi(model))


def test_without_names_what_runs_only_one_way_is_proved() -> None:
    """Words outside 0 and 1 are no types and no mask, and a float mask is no token."""
    model = Nameless().eval()
    mask = MASK.astype(np.float32) * 0.5 + 0.5
    given = give(model, ids=IDS, weights=mask, kinds=TYPES, y=LABELS)
    with torch.inference_mode():
        expected = model.phi(*map(torch.tensor, (IDS, TYPES, mask)))
    assert close(given.phi, expected)
    assert given.arrays == {"a": "ids", "b": "kinds", "c": "weights"}
    assert "the only way" in given.fitted.notes[0]


def test_without_names_what_runs_several_ways_is_asked_and_each_answer_works() -> None:
    model = Nameless().eval()
    arrays = {"ids": IDS, "mask": MASK, "kinds": TYPES, "y": LABELS}
    failure = refused(model, **arrays)
    assert (failure.code, failure.detail["code"]) == ("input_mismatch", "ambiguous_input")
    specs = specs_in(failure.hint)
    assert {"input": {"a": "ids", "b": "kinds", "c": "mask"}} in specs
    assert {"input": {"a": "ids", "b": "mask", "c": "kinds"}} in specs
    features = [give(model, spec, **arrays).phi for spec in specs]
    assert sum(close(phi, tokens_phi(model)) for phi in features) == 1


class Sequence(nn.Module):
    """Sums what is shorter than a length, if one is given."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(7, 16)
        self.head = nn.Linear(16, 4)

    def phi(self, x: Tensor, lengths: Tensor | None, scale: Tensor | None) -> Tensor:
        if lengths is not None:
            x = x * (torch.arange(7) < lengths.unsqueeze(1))
        if scale is not None:
            x = x * scale
        return torch.relu(self.body(x))

    def forward(
        self,
        x: Tensor,
        scale: Tensor | None = None,
        flag: bool = True,  # noqa: ARG002 - it is there to be left out
        lengths: Tensor | None = None,
    ) -> Tensor:
        return self.head(self.phi(x, lengths, scale))


LENGTHS = RNG.integers(2, 8, ROWS)


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        (None, ("x", "lengths")),
        ({"input": ["x", "lengths"]}, ("x", "lengths")),
        ({"input": {"x": "x", "lengths": "lengths"}}, ("x", "lengths")),
        ({"input": "x"}, ("x",)),
        (None, ("x",)),
    ],
)
def test_an_optional_argument_gets_the_array_of_its_name(
    spec: dict[str, Any] | None, names: tuple[str, ...]
) -> None:
    model = Sequence().eval()
    arrays = {"x": VECTORS, "lengths": LENGTHS}
    given = give(model, spec, **{name: arrays[name] for name in names}, y=LABELS)
    has_lengths = "lengths" in names
    with torch.inference_mode():
        lengths = torch.tensor(LENGTHS) if has_lengths else None
        expected = model.phi(torch.tensor(VECTORS), lengths, None)
    assert close(given.phi, expected)


def test_an_array_that_no_argument_takes_is_said() -> None:
    model = nn.Sequential(nn.Linear(7, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    words = np.array(["a"] * ROWS)
    given = give(model, x=VECTORS, identity=LENGTHS, words=words, y=LABELS)
    assert given.arrays == {"input": "x"}
    assert "got it: 'identity', 'words'." in given.fitted.notes[-1]


@pytest.mark.parametrize("name", ["x", "series"])
def test_an_array_that_an_optional_argument_may_be_meant_for_is_asked_about(name: str) -> None:
    model = Sequence().eval()
    arrays = {name: VECTORS, "lens": LENGTHS, "y": LABELS}
    failure = refused(model, **arrays)
    assert failure.detail["code"] == "ambiguous_input"
    answers = specs_in(failure.hint)
    assert {"input": {"x": name}} in answers
    assert {"input": {"x": name, "lengths": "lens"}} in answers
    for answer in answers:
        given = give(model, answer, **arrays)
        lengths, scale = (
            torch.tensor(LENGTHS) if argument in answer["input"] else None
            for argument in ("lengths", "scale")
        )
        expected = model.phi(torch.tensor(VECTORS), lengths, scale)
        assert close(given.phi, expected.detach())


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(50, 8)
        self.head = nn.Linear(8, 4)

    def phi(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        kept = torch.ones_like(ids) if mask is None else mask
        return torch.tanh((self.words(ids) * kept.unsqueeze(-1)).sum(1))

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.head(self.phi(input_ids, attention_mask))


def test_both_arrays_are_offered_where_one_argument_need_not_be_given() -> None:
    model = Masked().eval()
    arrays = {"words": IDS, "kept": MASK, "y": LABELS}
    answers = specs_in(refused(model, **arrays).hint)
    both = {"input": {"input_ids": "words", "attention_mask": "kept"}}
    assert both in answers
    with torch.inference_mode():
        expected = model.phi(torch.tensor(IDS), torch.tensor(MASK))
    assert close(give(model, both, **arrays).phi, expected)


def test_an_optional_argument_is_not_left_out_without_a_word() -> None:
    model = Sequence().eval()
    arrays = {"x": VECTORS, "lengths": LENGTHS[None], "y": LABELS}
    failure = refused(model, **arrays)
    expected = "'lengths', with other samples (1, not 60), cannot be given to the argument"
    assert expected in failure.message
    assert "It also has" not in failure.message
    (answer,) = specs_in(failure.hint)
    assert give(model, answer, **arrays).arrays == {"x": "x"}
    assert give(model, **{**arrays, "lengths": LENGTHS}).arrays == {"x": "x", "lengths": "lengths"}


def test_an_array_that_changes_nothing_is_not_asked_about() -> None:
    arrays = {"x": VECTORS, "full": np.full(ROWS, 7), "y": LABELS}

    class Padded(Sequence):
        def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
            return self.head(self.phi(x, lengths, None))

    assert give(Padded().eval(), **arrays).arrays == {"x": "x"}


def test_the_name_of_the_targets_is_no_input() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(7, 4)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.head(torch.relu(x + y))

    model = Two()
    arrays = {"x": VECTORS, "y": VECTORS * 2, "labels": LABELS}
    failure = refused(model, **arrays)
    assert "'y' was taken for the targets" in failure.message
    (spec,) = specs_in(failure.hint)
    given = give(model, {**spec, "target": "labels"}, **arrays)
    assert close(given.phi, torch.tensor(VECTORS * 3).relu())


def test_a_missing_array_names_both_sides_and_what_holds_other_samples() -> None:
    failure = refused(Tokens(), input_ids=IDS, attention_mask=MASK[:9], labels=LABELS)
    assert "(input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor)" in failure.message
    assert "It also has array 'attention_mask', with other samples" in failure.message
    assert failure.hint is not None
    assert '"input": {"input_ids": "array for input_ids"' in failure.hint
    assert failure.hint.startswith("The argument 'attention_mask' cannot be given the array of")


@pytest.mark.parametrize(
    ("input_", "words"),
    [
        ({"input_ids": "input_ids"}, "an argument 'token_type_ids', too"),
        ({"ids": "input_ids"}, "no argument 'ids'"),
        (["input_ids", "attention_mask"], "names arrays 'input_ids', 'attention_mask'"),
    ],
)
def test_a_spec_that_fits_no_argument_is_told_what_there_is(input_: object, words: str) -> None:
    failure = refused(Tokens(), {"input": input_}, **ARRAYS, labels=LABELS)
    assert words in failure.message
    assert failure.code == "input_mismatch"
    assert failure.hint is not None


def test_one_of_several_arrays_is_proved_by_its_shape_or_asked_for() -> None:
    model = nn.Sequential(nn.Linear(7, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    given = give(model, a=VECTORS[:, :3], b=VECTORS, y=LABELS)
    assert given.arrays == {"input": "b"}
    failure = refused(model, a=VECTORS * 2, b=VECTORS, y=LABELS)
    assert specs_in(failure.hint) == [{"input": {"input": "a"}}, {"input": {"input": "b"}}]
    assert give(model, x=VECTORS, b=VECTORS * 2, y=LABELS).arrays == {"input": "x"}


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64"])
def test_a_mask_of_any_number_type_reaches_a_model_that_wants_it_as_bool(dtype: str) -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.body = nn.Linear(7, 16)
            self.head = nn.Linear(16, 4)

        def phi(self, x: Tensor, padding: Tensor) -> Tensor:
            return torch.relu(self.body(x.masked_fill(padding, 0.0)))

        def forward(self, x: Tensor, padding: Tensor) -> Tensor:
            return self.head(self.phi(x, padding))

    model = Padded().eval()
    given = give(model, x=VECTORS, padding=MASK.astype(dtype), y=LABELS)
    with torch.inference_mode():
        expected = model.phi(torch.tensor(VECTORS), torch.tensor(MASK > 0))
    assert close(given.phi, expected)


class Recommender(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.users = nn.Embedding(100, 8)
        self.items = nn.Embedding(40, 8)
        self.head = nn.Linear(8, 4)

    def phi(self, user: Tensor, item: Tensor) -> Tensor:
        return torch.tanh(self.users(user) * self.items(item))

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return self.head(self.phi(user, item))


USERS, ITEMS = RNG.integers(0, 100, ROWS), RNG.integers(0, 40, ROWS)


@pytest.mark.parametrize("names", [("user", "item"), ("a", "b")])
def test_inputs_may_be_one_number_a_sample_each(names: tuple[str, str]) -> None:
    """Without names, users are proved: there are more of them than items."""
    model = Recommender().eval()
    user, item = names
    given = give(model, **{item: ITEMS, user: USERS}, y=LABELS)
    with torch.inference_mode():
        expected = model.phi(torch.tensor(USERS), torch.tensor(ITEMS))
    assert close(given.phi, expected)
    assert given.arrays == {"user": user, "item": item}


def test_an_array_that_is_left_over_is_asked_about_where_names_speak_against_it() -> None:
    class Lengths(Sequence):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            return self.head(self.phi(x, lengths, None))

    model = Lengths().eval()
    arrays = {"x": VECTORS, "sample_id": np.arange(ROWS), "y": LABELS}
    failure = refused(model, **arrays)
    assert failure.detail["code"] == "ambiguous_input"
    assert specs_in(failure.hint) == [{"input": {"x": "x", "lengths": "sample_id"}}]
    given = give(model, specs_in(failure.hint)[0], **arrays)
    assert given.arrays == {"x": "x", "lengths": "sample_id"}


class Both(nn.Module):
    """Pictures, and a table of bytes beside them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3)
        self.table = nn.Linear(5, 8)
        self.head = nn.Linear(8, 4)

    def phi(self, pixel_values: Tensor, meta: Tensor) -> Tensor:
        return torch.relu(self.conv(pixel_values)).mean((2, 3)) + torch.tanh(self.table(meta))

    def forward(self, pixel_values: Tensor, meta: Tensor) -> Tensor:
        return self.head(self.phi(pixel_values, meta))


def test_several_readings_are_asked_for_by_the_arrays_names() -> None:
    """Keys of an object come back from storage in another order."""
    model = Both().eval()
    pixels = RNG.integers(0, 256, (ROWS, 3, 8, 8), dtype=np.uint8)
    meta = RNG.integers(0, 90, (ROWS, 5), dtype=np.uint8)
    arrays = {"pixel_values": pixels, "meta": meta, "y": LABELS}
    specs = specs_in(refused(model, **arrays).hint)
    assert [[t["scale"] for t in spec["transform"].values()] for spec in specs] == [
        ["1/255", "1/255"], ["1/255", 1], [1, "1/255"], [1, 1],
    ]  # fmt: skip
    for spec in specs:
        turned = {"transform": dict(reversed(spec["transform"].items()))}
        scales = [1 / 255 if t["scale"] != 1 else 1 for t in spec["transform"].values()]
        with torch.inference_mode():
            expected = model.phi(
                torch.tensor(pixels).float() * scales[0], torch.tensor(meta).float() * scales[1]
            )
        assert close(give(model, turned, **arrays).phi, expected)

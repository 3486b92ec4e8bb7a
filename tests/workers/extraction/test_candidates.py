"""Several results that may be the answer: each is spelled out, and each choice works."""

import json
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from two_heads import BATCH, Archive, Base

from service.contract.failures import Failure
from service.contract.options import FeatureMapChoice
from workers.extraction import discover
from workers.protocol.errors import JobError


class InDict(Base):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.trunk(x)
        return {"out": self.fc(h), "aux": self.other(h)}


class InTuple(Base):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.trunk(x)
        return self.fc(h), self.other(h)


class BesideFeatures(Base):
    """The features have no head, so that they are no candidate."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.trunk(x)
        return h.cumsum(1), self.fc(h), self.other(h)


class Nested(Base):
    def forward(self, x: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        h = self.trunk(x)
        return (self.fc(h), self.other(h)), self.other(h.tanh())


class Fields(NamedTuple):
    out: Tensor
    aux: Tensor


class InFields(Base):
    def forward(self, x: Tensor) -> Fields:
        h = self.trunk(x)
        return Fields(self.fc(h), self.other(h))


class Numbered(Base):
    """The keys are numbers, and not those of the places."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.trunk(x)
        return {"1": self.fc(h), "0": self.other(h)}


class HeadOrSum(Base):
    """One result has a head; the other is a sum of heads, and may be the one that is meant."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.trunk(x)
        return self.fc(h) + self.other(h).sum(1, keepdim=True), self.other(h)


class Sums(Base):
    """Both results are sums of heads."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.trunk(x)
        more = self.other(h.tanh()).sum(1, keepdim=True)
        return {"out": self.fc(h) + more, "aux": self.other(h) + more}


class SumOrFeatures(Base):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.trunk(x)
        return self.fc(h) + self.fc(h.tanh()), h.cumsum(1)


class FurtherLayer(Base):
    """The answer was computed from a result with a head, in a way that cannot be followed."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.fc(self.trunk(x))
        e = torch.exp(h @ self.other.weight[:, :5].T)
        return h, e / e.sum(dim=1, keepdim=True)


class ThreeResults(Base):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.trunk(x)
        return {"embedding": h, "out": self.fc(h), "aux": self.other(h)}


def refused(
    model: nn.Module, choice: dict[str, Any] | None = None, batch: Tensor = BATCH
) -> Failure:
    given = None if choice is None else FeatureMapChoice.model_validate(choice)
    with pytest.raises(JobError) as caught:
        discover(model, (batch,), given)
    return caught.value.failure


def choices_in(hint: str | None) -> list[dict[str, Any]]:
    """The choices that a hint spells out, taken literally."""
    found, at = [], 0
    while (at := (hint or "").find("{", at)) >= 0:
        try:
            value, at = json.JSONDecoder().raw_decode(hint or "", at)
            found.append(value)
        except json.JSONDecodeError:
            at += 1
    return found


EXPECTED: list[tuple[type[Base], list[dict[str, Any]]]] = [
    (InDict, [{"output": "out"}, {"output": "aux"}]),
    (InTuple, [{"output": 0}, {"output": 1}]),
    (BesideFeatures, [{"output": 1}, {"output": 2}]),
    (Nested, [{"output": "0.0"}, {"output": "0.1"}, {"output": 1}]),
    (Numbered, [{"output": "1"}, {"output": "0"}]),
]


@pytest.mark.parametrize(("model", "expected"), EXPECTED)
def test_each_candidate_is_named_as_it_is_chosen(
    model: type[Base], expected: list[dict[str, Any]], archive: Archive
) -> None:
    loaded = archive(model(), BATCH)
    failure = refused(loaded)
    assert failure.detail["code"] == "ambiguous_output"
    assert choices_in(failure.hint) == expected
    outputs = [_outputs_of(loaded, choice) for choice in expected]
    assert outputs == ([5, 3, 3] if model is Nested else [5, 3])


def _outputs_of(model: nn.Module, choice: dict[str, Any]) -> int:
    found = discover(model, (BATCH,), FeatureMapChoice.model_validate(choice)).feature_map
    assert found.verified
    return found.outputs


def test_fields_are_named(archive: Archive) -> None:
    failure = refused(archive(InFields(), BATCH))
    assert choices_in(failure.hint) == [{"output": "out"}, {"output": "aux"}]


def test_of_a_result_without_one_last_layer_a_layer_is_named(archive: Archive) -> None:
    loaded = archive(HeadOrSum(), BATCH)
    failure = refused(loaded)
    one, other = choices_in(failure.hint)
    assert one == {"output": 1}
    assert other == {"output": 0, "module": "fc"}
    found = discover(loaded, (BATCH,), FeatureMapChoice(output=0, module="fc")).feature_map
    assert (found.location, found.verified) == ("fc.weight", False)
    assert _outputs_of(loaded, one) == 3


def test_two_results_without_one_last_layer(archive: Archive) -> None:
    loaded = archive(Sums(), BATCH)
    failure = refused(loaded)
    assert failure.detail["code"] == "ambiguous_output"
    given = choices_in(failure.hint)
    assert given == [{"output": "out", "module": "fc"}]  # other ran twice, so has no name
    for choice in given:
        discover(loaded, (BATCH,), FeatureMapChoice.model_validate(choice))


def test_a_single_candidate_is_refused_for_what_is_wrong_with_it(archive: Archive) -> None:
    failure = refused(archive(SumOrFeatures(), BATCH))
    assert failure.detail["code"] == "multiple_heads"


def test_a_result_and_what_was_made_of_it_are_named_by_their_places(archive: Archive) -> None:
    loaded = archive(FurtherLayer(), BATCH)
    given = choices_in(refused(loaded).hint)
    assert given == [{"output": 0}, {"features_output": 0, "output": 1}]
    for choice in given:
        discover(loaded, (BATCH,), FeatureMapChoice.model_validate(choice))


def test_beside_features_each_result_that_may_be_the_outputs_is_named(archive: Archive) -> None:
    loaded = archive(ThreeResults(), BATCH)
    failure = refused(loaded, {"features_output": "embedding"})
    given = choices_in(failure.hint)
    assert given == [
        {"features_output": "embedding", "output": "out"},
        {"features_output": "embedding", "output": "aux"},
    ]
    found = [
        discover(loaded, (BATCH,), FeatureMapChoice.model_validate(choice)).feature_map.outputs
        for choice in given
    ]
    assert found == [5, 3]


def test_a_result_is_not_both_features_and_outputs(archive: Archive) -> None:
    both = {"features_output": 0, "output": 0}
    loaded = archive(InTuple(), BATCH)
    failure = refused(loaded, both)
    assert "chosen both" in failure.message
    assert choices_in(failure.hint) == [{"features_output": 0, "output": 1}]
    alone = archive(nn.Linear(12, 5), BATCH)
    assert choices_in(refused(alone, both).hint) == [{"features_output": 0}]


class BesideSteps(Base):
    """A head's result for each of two steps, steps first, beside the answer for each sample."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.trunk(x)
        steps = self.other(torch.stack([h, h.tanh()]))
        return {"steps": steps, "out": self.fc(h.sin())}


class BesideStepsAndAnother(Base):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.trunk(x)
        steps = self.other(torch.stack([h, h.tanh()]))
        return {"steps": steps, "out": self.fc(h.sin()), "aux": self.other(h.cos())}


def test_a_result_without_a_row_for_each_sample_is_no_candidate(archive: Archive) -> None:
    alone = discover(archive(BesideSteps(), BATCH), (BATCH,)).feature_map
    assert (alone.output, alone.outputs, alone.verified) == ("out", 5, True)
    failure = refused(archive(BesideStepsAndAnother(), BATCH))
    assert choices_in(failure.hint) == [{"output": "out"}, {"output": "aux"}]
    assert failure.detail["candidates"] == ["out", "aux"]


class StepsAlone(Base):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.trunk(x)
        steps = torch.stack([h, h.tanh()])
        return self.fc(steps), self.other(steps.sin())


def test_results_without_a_row_for_each_sample_are_refused_as_such(archive: Archive) -> None:
    failure = refused(archive(StepsAlone(), BATCH))
    assert failure.detail["code"] == "bad_output"
    assert "[2, 16, 5]" in failure.message
    assert "[2, 16, 3]" in failure.message

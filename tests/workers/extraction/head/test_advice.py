"""The layer that a refusal names: as wide as the answer, and chosen as it is written."""

import pytest
import torch
from test_candidates import choices_in, refused
from torch import Tensor, nn
from torch.nn import functional
from two_heads import BATCH, Archive

from service.contract.options import FeatureMapChoice
from workers.extraction import discover


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden = nn.Linear(12, 16)
        self.fc = nn.Linear(16, 4)
        self.aux = nn.Linear(12, 4)
        self.norm = nn.LayerNorm(4)
        self.prototypes = nn.Parameter(torch.randn(4, 16))

    def phi(self, x: Tensor) -> Tensor:
        return torch.relu(self.hidden(x))


class Cosine(Base):
    def forward(self, x: Tensor) -> Tensor:
        return functional.cosine_similarity(self.phi(x)[:, None], self.prototypes[None], dim=-1)


class Distances(Base):
    def forward(self, x: Tensor) -> Tensor:
        return -torch.cdist(self.phi(x), self.prototypes)


class SumByHand(Base):
    def forward(self, x: Tensor) -> Tensor:
        return (self.phi(x)[:, None] * self.fc.weight).sum(-1) + self.fc.bias


class ManyDropouts(Base):
    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros(x.shape[0], 4)
        for _ in range(3):
            out = out + self.fc(self.phi(x))
        return out / 3


@pytest.mark.parametrize("model", [Cosine, Distances, SumByHand, ManyDropouts])
def test_no_hidden_layer_is_named(model: type[Base], archive: Archive) -> None:
    assert choices_in(refused(archive(model(), BATCH)).hint) == [{"features_output": 0}]


class Normalised(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.fc(self.phi(x)))


class BothClasses(Base):
    """The probabilities of two classes, made of one output."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        p = torch.sigmoid(self.fc(self.phi(x)))
        return torch.cat([p, 1 - p], 1)


class Single(BothClasses):
    def forward(self, x: Tensor) -> Tensor:
        u = self.fc(self.phi(x))
        return (u / (1 + u.abs()))[:, 0]


class Pixels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(1, 8, 3, padding=1)
        self.fc = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        e = torch.exp(self.fc(torch.relu(self.body(x))))
        return e / e.sum(1, keepdim=True)


@pytest.mark.parametrize("model", [Normalised, BothClasses, Single, Pixels])
def test_a_layer_as_wide_as_the_answer_is_named(model: type[Base], archive: Archive) -> None:
    batch = torch.randn(16, 1, 4, 5) if model is Pixels else BATCH
    loaded = archive(model(), batch)
    first, *_ = choices_in(refused(loaded, batch=batch).hint)
    assert first == {"module": "fc"}
    (told,) = discover(
        loaded, (batch,), FeatureMapChoice.model_validate(first)
    ).feature_map.warnings
    assert told.startswith("declared_head: ")
    assert "column" not in told


def test_a_declared_layer_of_another_width_is_told(archive: Archive) -> None:
    loaded = archive(Cosine(), BATCH)
    (told,) = discover(loaded, (BATCH,), FeatureMapChoice(module="hidden")).feature_map.warnings
    assert told.startswith("declared_head: ")
    assert "16 outputs" in told
    assert "4 columns" in told


class BesideAnother(Base):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.norm(self.fc(self.phi(x))), "aux": self.aux(x)}


class CosineBesideAnother(Base):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        cosines = functional.cosine_similarity(self.phi(x)[:, None], self.prototypes, dim=-1)
        return {"logits": cosines, "aux": self.aux(x)}


def test_of_a_chosen_result_the_layer_is_named_with_it(archive: Archive) -> None:
    loaded = archive(BesideAnother(), BATCH)
    given = choices_in(refused(loaded, {"output": "logits"}).hint)
    assert given == [{"output": "logits", "module": "fc"}]
    found = discover(loaded, (BATCH,), FeatureMapChoice.model_validate(given[0])).feature_map
    assert found.location == "fc.weight"


def test_of_a_chosen_result_no_layer_is_made_up(archive: Archive) -> None:
    loaded = archive(CosineBesideAnother(), BATCH)
    assert choices_in(refused(loaded, {"output": "logits"}).hint) == []


class TwoNormalised(Base):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.norm(self.fc(self.phi(x))), self.norm(self.aux(x))


def test_of_several_results_each_layer_is_named_with_its_result(archive: Archive) -> None:
    loaded = archive(TwoNormalised(), BATCH)
    given = choices_in(refused(loaded).hint)
    assert given == [{"output": 0, "module": "fc"}, {"output": 1, "module": "aux"}]
    for choice in given:
        discover(loaded, (BATCH,), FeatureMapChoice.model_validate(choice))


def test_where_a_named_layer_is_missing_one_that_is_there_is_named(archive: Archive) -> None:
    loaded = archive(Normalised(), BATCH)
    given = choices_in(refused(loaded, {"module": "classifier"}).hint)
    assert given == [{"module": "fc"}]

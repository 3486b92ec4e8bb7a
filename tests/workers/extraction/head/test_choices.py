"""What a model's owner may say about its head, and what becomes of it."""

import pytest
import torch
from torch import Tensor, nn
from two_heads import BATCH, Archive, Base

from service.contract.options import FeatureMapChoice
from workers.extraction import discover
from workers.protocol.errors import JobError


class TwoHeads(Base):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.trunk(x)
        return {"kind": self.fc(h), "colour": self.other(h)}


class HandWrittenSoftmax(Base):
    def forward(self, x: Tensor) -> Tensor:
        e = torch.exp(self.fc(self.trunk(x)))
        return e / e.sum(dim=1, keepdim=True)


class WithFeatures(Base):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.trunk(x)
        return self.fc(h), h


class WithOtherFeatures(Base):
    """The features it returns are not those that its last layer gets."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.trunk(x)
        return self.fc(h), torch.tanh(h)


class Twice(Base):
    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return torch.softmax(self.fc(h) * self.fc(-h), dim=1)


@pytest.mark.parametrize(
    ("output", "location", "outputs"),
    [("kind", "fc.weight", 5), ("colour", "other.weight", 3), (1, "other.weight", 3)],
)
def test_one_of_two_outputs(
    output: str | int, location: str, outputs: int, archive: Archive
) -> None:
    model = archive(TwoHeads(), BATCH)
    found = discover(model, (BATCH,), FeatureMapChoice(output=output)).feature_map
    assert (found.location, found.outputs, found.verified) == (location, outputs, True)


def test_a_layer_by_name_leads_to_its_output(archive: Archive) -> None:
    model = archive(TwoHeads(), BATCH)
    found = discover(model, (BATCH,), FeatureMapChoice(module="other")).feature_map
    assert (found.output, found.location, found.verified) == ("colour", "other.weight", True)
    assert found.warnings == ()


@pytest.mark.parametrize("how", ["scripted", "traced", "exported"])
def test_a_layer_whose_way_to_the_answer_is_not_followed(how: str, archive: Archive) -> None:
    net = HandWrittenSoftmax().eval()
    extractor = discover(archive(net, BATCH, how), (BATCH,), FeatureMapChoice(module="fc"))
    extracted = extractor.run((BATCH,))
    with torch.no_grad():
        torch.testing.assert_close(extracted.phi, net.trunk(BATCH))
        torch.testing.assert_close(extracted.outputs, net.fc(net.trunk(BATCH)))
    found = extractor.feature_map
    assert (found.verified, found.link, found.location) == (False, "unverified", "fc.weight")
    assert [warning.split(":")[0] for warning in found.warnings] == ["declared_head"]
    assert extractor.residual is not None
    assert extractor.residual < 1e-5


def test_a_layer_by_number_where_there_are_no_names(archive: Archive) -> None:
    model = archive(HandWrittenSoftmax(), BATCH, "frozen")
    with pytest.raises(JobError) as caught:
        discover(model, (BATCH,), FeatureMapChoice(module="fc"))
    assert caught.value.failure.code == "head_not_found"
    assert "at operation 3" in caught.value.failure.message
    found = discover(model, (BATCH,), FeatureMapChoice(operation=3)).feature_map
    assert (found.verified, found.p, found.outputs) == (False, 16, 5)


def test_features_that_are_an_output_are_proved_where_they_can_be(archive: Archive) -> None:
    net = WithFeatures().eval()
    choice = FeatureMapChoice(features_output=1)
    extractor = discover(archive(net, BATCH), (BATCH,), choice)
    extracted = extractor.run((BATCH,))
    with torch.no_grad():
        torch.testing.assert_close(extracted.phi, net.trunk(BATCH))
    found = extractor.feature_map
    assert (found.verified, found.location, found.link) == (True, "result 1", "identity")
    assert found.W is not None


def test_features_that_are_an_output_are_believed_with_a_warning(archive: Archive) -> None:
    net = WithOtherFeatures().eval()
    choice = FeatureMapChoice(features_output=1)
    extractor = discover(archive(net, BATCH), (BATCH,), choice)
    extracted = extractor.run((BATCH,))
    with torch.no_grad():
        torch.testing.assert_close(extracted.phi, torch.tanh(net.trunk(BATCH)))
        torch.testing.assert_close(extracted.outputs, net(BATCH)[0])
    found = extractor.feature_map
    assert (found.verified, found.W, extractor.residual) == (False, None, None)
    assert [warning.split(":")[0] for warning in found.warnings] == ["declared_features"]


@pytest.mark.parametrize(
    ("model", "choice", "code", "says"),
    [
        (TwoHeads, {"output": "size"}, "bad_output", "'kind' (position 0), 'colour' (position 1)"),
        (TwoHeads, {"module": "trunk.1"}, "no_linear_head", "trunk.0.weight at operation 1"),
        (Twice, {"module": "fc"}, "no_linear_head", "runs 2 linear operations"),
        (TwoHeads, {"operation": 2}, "no_linear_head", "no linear operation at operation 2"),
        (Base, {"module": "fc\x1b[31m"}, "no_linear_head", "\\x1b[31m"),
    ],
)
def test_a_choice_that_is_not_there_is_answered_with_what_is(
    model: type[Base], choice: dict[str, str], code: str, says: str, archive: Archive
) -> None:
    net = HandWrittenSoftmax() if model is Base else model()
    with pytest.raises(JobError) as caught:
        discover(archive(net, BATCH), (BATCH,), FeatureMapChoice.model_validate(choice))
    assert caught.value.failure.detail["code"] == code
    assert says in caught.value.failure.message
    assert caught.value.failure.hint


class InParts(Base):
    """The head runs for each part of the batch, and another one beside it."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.trunk(x)
        kinds = [self.fc(part) for part in h.split(4)]
        return {"colour": self.other(h), "kind": torch.cat(kinds)}


def test_a_layer_that_runs_for_parts_leads_to_its_output(archive: Archive) -> None:
    net = InParts().eval()
    extractor = discover(archive(net, BATCH), (BATCH,), FeatureMapChoice(module="fc"))
    found = extractor.feature_map
    assert (found.output, found.location, found.verified) == ("kind", "fc.weight", True)
    more = torch.randn(37, 12)
    with torch.no_grad():
        torch.testing.assert_close(extractor.run((more,)).phi, net.trunk(more))


class PartsThatDiffer(Base):
    """For more than sixteen samples the parts no longer see the same layer."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        parts = [self.fc(h[:16])]
        if h.shape[0] > 16:
            parts.append(self.fc(torch.tanh(h[16:])) * 2.0)
        return torch.cat(parts)


def test_each_batch_proves_anew_that_parts_are_of_one_layer(archive: Archive) -> None:
    extractor = discover(archive(PartsThatDiffer(), BATCH), (BATCH,))
    with pytest.raises(JobError) as caught:
        extractor.run((torch.randn(20, 12),))
    assert caught.value.failure.detail["code"] in {"residual", "multiple_heads"}


class HeadsThatPart(Base):
    """Both heads see the same features, until one feature is large."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return torch.cat([self.fc(h), self.other(h.clamp(max=8.0))], dim=1)


def test_each_batch_proves_anew_that_heads_see_the_same(archive: Archive) -> None:
    net = HeadsThatPart().eval()
    extractor = discover(archive(net, BATCH), (BATCH,))
    assert extractor.feature_map.location == "fc.weight, other.weight"
    with pytest.raises(JobError) as caught:
        extractor.run((100.0 * BATCH,))
    assert caught.value.failure.detail["code"] == "multiple_heads"


def test_a_result_alone_may_be_the_features(archive: Archive) -> None:
    net = nn.Sequential(nn.Linear(12, 16), nn.Softmax(1)).eval()
    choice = FeatureMapChoice(features_output=0)
    extractor = discover(archive(net, BATCH), (BATCH,), choice)
    extracted = extractor.run((BATCH,))
    with torch.no_grad():
        torch.testing.assert_close(extracted.phi, net(BATCH))
    assert extracted.outputs.shape == extracted.answers.shape == (16, 0)
    found = extractor.feature_map
    assert (found.outputs, found.link, found.location) == (0, "none", "the only result")

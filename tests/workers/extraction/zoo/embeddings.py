"""Models that return features alone, as metric learning and backbones without a classifier do."""

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor, nn
from torch.nn import functional

from service.contract.failures import FailureCode
from zoo.case import NO_LINK, Accepted, Batch, Case, Headed, Refused, Truth, cases, images, vectors
from zoo.convolutional import ResNet

ALL = ("scripted", "traced", "exported")


class Normalized(Headed):
    """An embedding of length one."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(self.head(self.trunk(x)), dim=1)


class Standardized(Headed):
    """An embedding after a batch norm, of length one."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        e = self.norm(self.head(self.trunk(x)))
        return e / e.square().sum(dim=1, keepdim=True).sqrt()


class Residual(Headed):
    """A projection head that adds its input."""

    def __init__(self) -> None:
        super().__init__(outputs=16)

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x)
        return functional.layer_norm(h + self.head(h), [16])


class Backbone(ResNet):
    """The pooled map of a network without its classifier."""

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.blocks(self.stem(x))).flatten(1)


class MaxPooled(ResNet):
    """The largest values of a map after its nonlinearity, not flattened."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.adaptive_max_pool2d(self.stem(x), 1)


class Named(Normalized):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"embedding": functional.normalize(self.head(self.trunk(x)), dim=1)}


def of_answer(model: nn.Module, batch: Batch) -> Truth:
    answer = model(*batch)
    phi = (answer["embedding"] if isinstance(answer, dict) else answer).flatten(1)
    return Truth(phi, phi[:, :0], phi.new_zeros(0, phi.shape[1]), None)


ALONE = Accepted(
    of_answer, NO_LINK, "declared", warnings=("no_outputs",), choice={"features_output": 0}
)
HEADLESS = Refused(FailureCode.HEAD_NOT_FOUND, "no_linear_head", ("before it met", "combines"))
POOLED = Refused(FailureCode.UNSUPPORTED_MODEL, "nonlinear_pool", ("relu", "max"))
SUM = Refused(FailureCode.UNSUPPORTED_MODEL, "multiple_heads", ("add",))


def embeddings() -> Iterator[Case]:
    family = "features_alone"
    for model, inputs, unchosen in (
        (Normalized, vectors, HEADLESS),
        (Standardized, vectors, HEADLESS),
        (Residual, vectors, HEADLESS),
        (Named, vectors, HEADLESS),
        (MaxPooled, images, POOLED),
        (Backbone, images, SUM),
    ):
        name = model.__name__.lower()
        yield from cases(family, model, inputs, ALONE, *ALL, name=f"{name}alone")
        yield from cases(family, model, inputs, unchosen, "scripted", name=f"{name}unchosen")
    by_name = replace(ALONE, choice={"features_output": "embedding"})
    yield from cases(family, Named, vectors, by_name, *ALL, name="namedbyname")

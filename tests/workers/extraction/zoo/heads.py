"""Last linear layers in every spelling, after one small trunk."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, weight_norm

from zoo.case import (
    USUAL_WAYS,
    Accepted,
    Batch,
    Case,
    Headed,
    Truth,
    cases,
    linear,
    of_head,
    tokens,
    trunk,
    vectors,
)
from zoo.saving import quiet


class Product(nn.Module):
    """Φ @ weight, for a weight of [p, C], with a bias of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = trunk()
        self.weight = nn.Parameter(torch.randn(16, 5))
        self.bias = nn.Parameter(torch.randn(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(x) @ self.weight + self.bias


class Addmm(Product):
    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, self.trunk(x), self.weight)


class ScaledAddmm(Product):
    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, self.trunk(x), self.weight, beta=0.5, alpha=2.0)


class Einsum(Product):
    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("np,pc->nc", self.trunk(x), self.weight) + self.bias


class EinsumClassFirst(Product):
    """The outputs are computed as [C, n]."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("pc,np->cn", self.weight, self.trunk(x)).transpose(0, 1) + self.bias


class Inner(Product):
    """Φ and W summed over their last axes."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.inner(self.trunk(x), self.weight.t()) + self.bias


class InnerClassFirst(Product):
    def forward(self, x: Tensor) -> Tensor:
        return torch.inner(self.weight.t(), self.trunk(x)).t() + self.bias


class Tensordot(Product):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tensordot(self.trunk(x), self.weight, dims=([1], [0])) + self.bias


class TensordotClassFirst(Product):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tensordot(self.weight, self.trunk(x), dims=([0], [1])).t() + self.bias


class Bmm(Product):
    """One copy of the weight for each sample."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x).unsqueeze(1)
        weight = self.weight.unsqueeze(0).expand(x.shape[0], -1, -1)
        return torch.bmm(h, weight).squeeze(1) + self.bias


class WeightFirst(Product):
    """W @ Φᵀ, turned round afterwards."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.mm(self.weight.t(), self.trunk(x).t()).t() + self.bias


class BroadcastWeightFirst(Product):
    """W applied to columns: [C, p] @ [n, p, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.matmul(self.weight.t(), self.trunk(x).unsqueeze(-1)).squeeze(-1) + self.bias


def of_product(model: nn.Module, batch: Batch) -> Truth:
    return linear(model.trunk(*batch), model.weight.T, model.bias)


def of_scaled(model: nn.Module, batch: Batch) -> Truth:
    return linear(model.trunk(*batch), 2.0 * model.weight.T, 0.5 * model.bias)


class Transposed(nn.Module):
    """Φ @ weight.t(), for a weight of [C, p]."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = trunk()
        self.weight = nn.Parameter(torch.randn(5, 16))

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(x) @ self.weight.t()


class Functional(Transposed):
    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(self.trunk(x), self.weight)


class Prototypes(Transposed):
    """2 x·c − ‖c‖², the part of the squared distance that tells classes apart."""

    def forward(self, x: Tensor) -> Tensor:
        return 2.0 * (self.trunk(x) @ self.weight.t()) - self.weight.square().sum(dim=1)


def of_weight(model: nn.Module, batch: Batch) -> Truth:
    return linear(model.trunk(*batch), model.weight, None)


def of_prototypes(model: nn.Module, batch: Batch) -> Truth:
    return linear(model.trunk(*batch), 2.0 * model.weight, -(model.weight**2).sum(1))


class Vector(nn.Module):
    """One output as a product with a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = trunk()
        self.weight = nn.Parameter(torch.randn(16))

    def forward(self, x: Tensor) -> Tensor:
        return torch.mv(self.trunk(x), self.weight)


def of_vector(model: nn.Module, batch: Batch) -> Truth:
    return linear(model.trunk(*batch), model.weight[None], None)


class Tied(nn.Module):
    """The embedding is the decoder: the next word from the mean of the words so far."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.layer = nn.Linear(16, 16)
        self.bias = nn.Parameter(torch.randn(50))

    def features(self, ids: Tensor) -> Tensor:
        return functional.gelu(self.layer(self.embedding(ids).mean(dim=1)))

    def forward(self, ids: Tensor) -> Tensor:
        return functional.linear(self.features(ids), self.embedding.weight, self.bias)


class TiedSquare(nn.Module):
    """The weight of the head is that of a hidden layer, too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 12)
        self.head = self.layer

    def features(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(torch.tanh(self.layer(x))))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def of_tied(model: nn.Module, batch: Batch) -> Truth:
    return linear(model.features(*batch), model.embedding.weight, model.bias)


class WeightNorm(Headed):
    def __init__(self) -> None:
        super().__init__()
        with quiet():
            self.head = weight_norm(self.head)


class ParametrizedWeightNorm(Headed):
    def __init__(self) -> None:
        super().__init__()
        self.head = parametrizations.weight_norm(self.head)


def of_weight_norm(model: nn.Module, batch: Batch) -> Truth:
    head = model.head
    weight = head.weight_g * head.weight_v / head.weight_v.norm(dim=1, keepdim=True)
    return linear(model.trunk(*batch), weight, head.bias)


class Cosine(nn.Module):
    """Φ is the normalised feature; W the normalised weight times the scale."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = trunk()
        self.weight = nn.Parameter(torch.randn(5, 16))
        self.scale = nn.Parameter(torch.tensor(8.0))

    def forward(self, x: Tensor) -> Tensor:
        h = functional.normalize(self.trunk(x), dim=1)
        return self.scale * functional.linear(h, functional.normalize(self.weight, dim=1))


class FixedScaleCosine(Cosine):
    def forward(self, x: Tensor) -> Tensor:
        h = functional.normalize(self.trunk(x))
        return (h @ functional.normalize(self.weight).t()) * 8.0


def of_cosine(model: nn.Module, batch: Batch) -> Truth:
    h, weight = model.trunk(*batch), model.weight
    weight = 8.0 * weight / weight.norm(dim=1, keepdim=True)
    return linear(h / h.norm(dim=1, keepdim=True), weight, None)


class TwoLinear(Headed):
    """Nothing between the last two layers: Φ is the input of the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(trunk(), nn.Linear(16, 16))


class NoBias(Headed):
    def __init__(self) -> None:
        super().__init__(bias=False)


class LowRank(Headed):
    """A thin layer before the head, as a bottleneck."""

    def __init__(self) -> None:
        super().__init__(width=3)


class Wide(Headed):
    """More features than samples in the first batch."""

    def __init__(self) -> None:
        super().__init__(width=80)


class Unflattened(Headed):
    """The head sees [n, 1, p]."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x).unsqueeze(1)).squeeze(1)


class HeadBlocks(Headed):
    """Multiplies with a part of a larger weight, such as the first tasks of several."""

    def __init__(self) -> None:
        super().__init__(outputs=8)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(self.trunk(x), self.head.weight[2:7], self.head.bias[2:7])


def of_block(model: nn.Module, batch: Batch) -> Truth:
    return linear(model.trunk(*batch), model.head.weight[2:7], model.head.bias[2:7])


PRODUCTS: dict[type[nn.Module], Callable[[nn.Module, Batch], Truth]] = {
    Product: of_product,
    Addmm: of_product,
    ScaledAddmm: of_scaled,
    Einsum: of_product,
    EinsumClassFirst: of_product,
    Inner: of_product,
    InnerClassFirst: of_product,
    Tensordot: of_product,
    TensordotClassFirst: of_product,
    Bmm: of_product,
    WeightFirst: of_product,
    BroadcastWeightFirst: of_product,
    Transposed: of_weight,
    Functional: of_weight,
    Prototypes: of_prototypes,
    Vector: of_vector,
    HeadBlocks: of_block,
}

EXPORTED = {Einsum, Inner, Tensordot, Bmm, WeightFirst, Vector}


def heads() -> Iterator[Case]:
    for model in (Headed, TwoLinear, NoBias, LowRank, Wide, Unflattened, TiedSquare):
        ways = (*USUAL_WAYS, "optimized") if model is Headed else ("scripted",)
        yield from cases("mlp", model, vectors, Accepted(of_head), *ways)
    for product, truth in PRODUCTS.items():
        ways = ("scripted", "frozen", *(["exported"] if product in EXPORTED else []))
        yield from cases("products", product, vectors, Accepted(truth), *ways)
    yield from cases("products", Tied, tokens, Accepted(of_tied))
    yield from cases("normalised", Cosine, vectors, Accepted(of_cosine))
    yield from cases("normalised", FixedScaleCosine, vectors, Accepted(of_cosine), "scripted")
    yield from cases(
        "normalised", WeightNorm, vectors, Accepted(of_weight_norm), "traced", "exported"
    )
    yield from cases(
        "normalised",
        ParametrizedWeightNorm,
        vectors,
        Accepted(of_head),
        "traced",
        "exported",
        name="parametrized",
    )

"""Models that go wrong in one way each."""

import torch
from torch import Tensor, nn

COLUMNS, CLASSES = 12, 4


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(COLUMNS, 16)
        self.head = nn.Linear(16, CLASSES)

    def answer(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.trunk(x)))


class NoForward(Base):
    @torch.jit.export
    def encode(self, x: Tensor) -> Tensor:
        return self.answer(x)


class SaysManyLines(Base):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] > 0:
            raise ValueError("Expected columns of seconds,\nnot of hours.\n\nSee the manual.")
        return self.answer(x)


class Asserts(Base):
    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 7, "seven sensors"
        return self.answer(x)


class AssertsSilently(Base):
    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 7
        return self.answer(x)


class Inverts(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x) @ torch.linalg.inv(torch.zeros(4, 4))


class Factorises(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x) @ torch.linalg.cholesky(-torch.eye(4))


class InvertsLate(Base):
    """Only later batches hold what has no inverse."""

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.eye(16) * (1.0 - (x[:, 0] > 100).float().max())
        return self.head(torch.relu(self.trunk(x)) @ torch.linalg.inv(scale))


class Diagonalises(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x) + torch.linalg.eigh(torch.full((4, 4), float("nan")))[0]


class Allocates(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x) + torch.zeros(1 << 40).sum()


class AllocatesLate(Base):
    def forward(self, x: Tensor) -> Tensor:
        if bool((x[:, 0] > 100).any()):
            return self.answer(x) + torch.zeros(1 << 40).sum()
        return self.answer(x)


class Overflows(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x) + torch.zeros(1 << 62, 1 << 62).sum()


class Grows(Base):
    """Of its own accord, until there is no more."""

    def forward(self, x: Tensor) -> Tensor:
        kept = [x]
        while len(kept) < 100_000:
            kept.append(torch.ones(1_000_000))
        return self.answer(x) + kept[-1].sum()


class UsesGpu(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x.to("cu" + "da"[: x.dim()]))


class SelectsBeyond(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x) + x[:, 40:41] + x[:, 40].unsqueeze(1)


class LooksUpBeyond(Base):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(3, COLUMNS)

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(self.table(x[:, 0].long() + 100))


class Divides(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x.view(x.shape[0] // (x.shape[1] - 12), -1))


class MissesKey(Base):
    def forward(self, x: Tensor) -> Tensor:
        return {"logits": self.answer(x)}["scores"]


class Images(Base):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).mean((2, 3)))


class Quantised(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.answer(torch.ops.quantized.relu6(x))


class NeedsNumber(Base):
    def forward(self, x: Tensor, k: int) -> Tensor:
        return self.answer(x) * k


class TakesNothing(Base):
    def forward(self) -> Tensor:
        return self.answer(torch.zeros(3, 12))


class TakesText(Base):
    def forward(self, x: list[str]) -> Tensor:
        return self.answer(torch.zeros(len(x), 12))


class GivesText(Base):
    def forward(self, x: Tensor) -> str:
        return "cat" if x.shape[0] else "dog"


class GivesNothing(Base):
    def forward(self, x: Tensor) -> None:
        self.answer(x)


class GivesClasses(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x).argmax(1)


class GivesEmpty(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x)[:0]


class GivesList(Base):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.answer(x) for _ in range(100)]


class GivesNan(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x) * float("nan")


class NanInside(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.trunk(x)) / torch.zeros(1))


class Enormous(Base):
    """Features whose squares are beyond float64."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.trunk(x).double() * 1e200
        return torch.nn.functional.linear(h, self.head.weight.double(), self.head.bias.double())


class Sparse(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x).to_sparse()


class Complex(Base):
    def forward(self, x: Tensor) -> Tensor:
        return torch.complex(self.answer(x), self.answer(x))


class Random(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x + torch.randn_like(x))


class OneByOne(Base):
    """Takes a single sample."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.dim() == 1, "one sample at a time"
        return self.answer(x)


class Reshapes(Base):
    def forward(self, x: Tensor) -> Tensor:
        out = self.answer(x)
        for _ in range(3):
            out = out.view(7, 11, 13)
        return out


class ByAutocast(Base):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bool(x.sum() > 0)):
            return self.answer(x)


class Splits(Base):
    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.split(x, 5, dim=1)
        return self.answer(a + b)


class Matmul(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.answer(x @ torch.zeros(5, 12))


class WrongDtype(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.trunk(x)).half())

"""One case: a model, how it is saved, and a probe for it."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from support import quiet, traced
from torch import Tensor, nn

from borders.inputs import KINDS, WIDTH, Inputs
from borders.targets import Link, Targets, draw

_OUTPUTS = (1, 3, 4, 5)


class Model(nn.Module):
    """A body, a head, and a link."""

    def __init__(self, body: nn.Module, head: nn.Linear, link: Link) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.link = link


class OfOne(Model):
    def forward(self, x: Tensor) -> Tensor:
        return self.link(self.head(self.body(x)))


class OfTwo(Model):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.link(self.head(self.body(x, mask)))


@dataclass(frozen=True)
class Case:
    """A model and a probe that belong together.

    Attributes:
        archive: The model.
        arrays: The probe.
        eigenvalues: Of Φ, all of them, in eager mode.
        targets: What it is compared with.
        what: All that was drawn, for messages.
    """

    archive: bytes
    arrays: dict[str, np.ndarray]
    eigenvalues: np.ndarray
    targets: Targets
    what: str

    def faults(self, report: dict[str, Any]) -> list[str]:
        """What in a report is not true."""
        found = []
        values = np.array(report["spectrum"]["eigenvalues"])
        size = min(len(values), len(self.eigenvalues))
        first = self.eigenvalues[0]
        if not np.allclose(values[:size], self.eigenvalues[:size], rtol=1e-3, atol=1e-4 * first):
            found.append(f"eigenvalues {values[:3]} for {self.eigenvalues[:3]}")
        if report["probe"]["task"] != self.targets.task:
            found.append(f"task {report['probe']['task']}")
        for name, expected in self.targets.expected.items():
            told = report["performance"][name]
            if told is None or not np.isclose(told, expected, rtol=1e-3, atol=1e-6):
                found.append(f"{name} {told} for {expected}")
        return found


def case(number: int) -> Case:
    """Draws a case; the same number gives the same case."""
    random = np.random.default_rng(number)
    torch.manual_seed(number)
    inputs = [*KINDS.values()][number % len(KINDS)](random)
    head = nn.Linear(WIDTH, int(random.choice(_OUTPUTS)))
    phi, outputs = _eager(inputs, head)
    # So that answers are neither all alike nor all certain, whatever the features' size.
    with torch.no_grad():
        head.weight *= 2 / outputs.std()
        head.bias -= (phi @ head.weight.T).mean(0) + head.bias
    phi, outputs = _eager(inputs, head)
    targets = draw(outputs, random)
    kind = OfTwo if len(inputs.given) > 1 else OfOne
    model = kind(inputs.body, head, targets.link).eval()
    way = str(random.choice(["traced", "traced", "traced", "exported"]))
    archive = traced(model, *_examples(inputs)) if way == "traced" else _exported(model, inputs)
    arrays = dict(inputs.arrays)
    if targets.stored is not None:
        arrays[str(random.choice(["y", "labels", "target"]))] = targets.stored
    squares = phi.double().T @ phi.double() / len(phi)
    eigenvalues = torch.linalg.eigvalsh(squares).flip(0).numpy()
    dtypes = ", ".join(f"{name} {array.dtype}" for name, array in arrays.items())
    what = f"case {number}: {inputs.what}, {targets.what}, {way}; {dtypes}"
    return Case(archive, arrays, eigenvalues, targets, what)


@torch.inference_mode()
def _eager(inputs: Inputs, head: nn.Linear) -> tuple[Tensor, Tensor]:
    phi = inputs.body(*inputs.given)
    return phi, head(phi)


def _examples(inputs: Inputs) -> tuple[Tensor, ...]:
    return tuple(tensor[:3] for tensor in inputs.given)


def _exported(model: nn.Module, inputs: Inputs) -> bytes:
    batch = torch.export.Dim("batch")
    examples = _examples(inputs)
    shapes = tuple({0: batch} for _ in examples)
    file = io.BytesIO()
    with quiet():
        torch.export.save(torch.export.export(model, examples, dynamic_shapes=shapes), file)
    return file.getvalue()

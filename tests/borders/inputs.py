"""What models take: pictures, indicators, tokens, tables and sound, stored in many ways.

Each kind draws the arrays of a probe, and a module from the stored arrays to the first layer. The
module's author knows what the stored values mean; the probe does not say.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

ROWS = 48
WIDTH = 16

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Inputs:
    """Arrays of a probe, and the part of a model that takes them.

    Attributes:
        arrays: By name, in the order in which the file holds them.
        body: Gives `[rows, WIDTH]` from what the model is given.
        given: What its author gives it, of the same samples.
        what: The kind, for messages.
    """

    arrays: Arrays
    body: nn.Module
    given: tuple[Tensor, ...]
    what: str


class Steps(nn.Module):
    """What a model does to its input before its first layer."""

    def __init__(self, factor: float, offset: float) -> None:
        super().__init__()
        self.factor = factor
        self.offset = offset

    def forward(self, x: Tensor) -> Tensor:
        return x.float() * self.factor + self.offset


class Pictures(nn.Module):
    def __init__(self, channels: int, steps: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.steps = steps
        self.conv = nn.Conv2d(channels, WIDTH, 3)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(self.steps(x)))).mean((2, 3))


class Sequences(nn.Module):
    def __init__(self, channels: int, steps: nn.Module, stride: int = 1) -> None:
        super().__init__()
        self.steps = steps
        self.conv = nn.Conv1d(channels, WIDTH, 5, stride)

    def forward(self, x: Tensor) -> Tensor:
        x = self.steps(x)
        x = x.unsqueeze(1) if x.dim() == 2 else x
        return torch.relu(self.conv(x)).mean(2)


class Vectors(nn.Module):
    def __init__(self, features: int, steps: nn.Module) -> None:
        super().__init__()
        self.steps = steps
        self.linear = nn.Linear(features, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.linear(self.steps(x)))


class Words(nn.Module):
    def __init__(self, words: int) -> None:
        super().__init__()
        self.table = nn.Embedding(words, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.table(x).sum(1))


class MaskedWords(Words):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return torch.tanh((self.table(x) * mask.unsqueeze(2)).sum(1))


class Straight(nn.Module):
    """Does nothing, and takes floats only."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def _pictures(random: np.random.Generator) -> Inputs:
    channels = int(random.choice([1, 3]))
    # Not all of the range: real pictures seldom are noise.
    bright = random.integers(0, 200, (ROWS, 1, 1, 1)) + random.integers(
        0, 56, (ROWS, channels, 9, 9)
    )
    stored: np.ndarray = bright.astype(str(random.choice(["uint8", "uint8", "uint16", "int64"])))
    unit, norm, steps = 1 / 255, nn.Identity(), Straight()
    match random.choice(["units", "bytes", "divides", "centres", "norm of units", "norm of bytes"]):
        case "bytes":
            unit = 1.0
        case "divides":
            unit, steps = 1.0, Steps(1 / 255, 0.0)
        case "centres":
            steps = Steps(1 / 0.3, -0.45 / 0.3)
        case "norm of bytes":
            unit, norm = 1.0, nn.BatchNorm2d(WIDTH)
        case "norm of units":
            norm = nn.BatchNorm2d(WIDTH)
    body = Pictures(channels, steps, norm)
    given = torch.from_numpy(stored.astype(np.float64)).float() * unit
    if isinstance(norm, nn.BatchNorm2d):
        for _ in range(130):
            body(given)
    if stored.dtype == np.uint8 and channels == 3 and random.random() < 0.4:
        stored = stored.transpose(0, 2, 3, 1)
    return Inputs({"x": stored}, body.eval(), (given,), "pictures")


def _floats(random: np.random.Generator) -> Inputs:
    stored = random.random((ROWS, 3, 9, 9)).astype(str(random.choice(["float32", "float64"])))
    body = Pictures(3, Straight(), nn.Identity())
    return Inputs({"x": stored}, body, (torch.from_numpy(stored).float(),), "float pictures")


_ANY_NUMBERS = ["uint8", "bool", "int8", "int32", "int64", "float32", "float64", "uint16"]


def _one_hot(random: np.random.Generator) -> Inputs:
    letters = random.integers(0, 4, (ROWS, 40))
    stored = np.eye(4)[letters].transpose(0, 2, 1).astype(str(random.choice(_ANY_NUMBERS)))
    body = Sequences(4, Straight())
    return Inputs({"x": stored}, body, (torch.from_numpy(stored.astype("f4")),), "one-hot")


def _bits(random: np.random.Generator) -> Inputs:
    stored = (random.random((ROWS, 30)) < 0.3).astype(str(random.choice(_ANY_NUMBERS)))
    body = Vectors(30, Straight())
    return Inputs({"x": stored}, body, (torch.from_numpy(stored.astype("f4")),), "fingerprints")


def _tokens(random: np.random.Generator) -> Inputs:
    stored = random.integers(0, 200, (ROWS, 12))
    stored = stored.astype(str(random.choice(["uint8", "int16", "int32", "int64", "float32"])))
    given = torch.from_numpy(stored.astype("i8"))
    return Inputs({"x": stored}, Words(200), (given,), "tokens")


def _masked_tokens(random: np.random.Generator) -> Inputs:
    stored = random.integers(2, 200, (ROWS, 12)).astype(str(random.choice(["int32", "int64"])))
    mask = (np.arange(12) < random.integers(1, 13, (ROWS, 1))).astype(
        str(random.choice(["bool", "int64", "uint8", "float32"]))
    )
    names = [["x", "mask"], ["ids", "kept"], ["mask", "x"]][int(random.integers(3))]
    words, kept = (names[1], names[0]) if names[0] == "mask" else names
    arrays = {words: stored, kept: mask}
    if random.random() < 0.5:
        arrays = dict(reversed(arrays.items()))
    given = (torch.from_numpy(stored.astype("i8")), torch.from_numpy(mask.astype("f4")))
    return Inputs(arrays, MaskedWords(200), given, "tokens with a mask")


def _table(random: np.random.Generator) -> Inputs:
    scale = float(random.choice([1.0, 40.0, 2000.0]))
    values = random.standard_normal((ROWS, 14)) * scale
    dtype = str(random.choice(["float32", "float64", "int16", "int32", "uint16", "uint8"]))
    if dtype[0] == "u":
        values = np.abs(values).clip(0, 255 if dtype == "uint8" else 65535)
    stored = values.astype(dtype)
    norm = nn.BatchNorm1d(14)
    given = torch.from_numpy(stored.astype("f4"))
    for _ in range(130):
        norm(given)
    return Inputs({"x": stored}, Vectors(14, norm).eval(), (given,), "a table")


def _sound(random: np.random.Generator) -> Inputs:
    waves = np.clip(random.standard_normal((ROWS, 256)) * 6000, -32768, 32767)
    stored = waves.astype(str(random.choice(["int16", "float32"])))
    steps: nn.Module = Straight()
    unit = 1.0
    match random.choice(["waves", "divides", "whole"]):
        case "waves":
            unit = 1 / 32768
        case "divides":
            steps = Steps(1 / 32768, 0.0)
    if stored.dtype == np.float32:
        stored, unit = (stored * np.float32(unit)), 1.0
    given = torch.from_numpy(stored.astype("f4")) * unit
    return Inputs({"x": stored}, Sequences(1, steps, 4), (given,), "sound")


KINDS: dict[str, Callable[[np.random.Generator], Inputs]] = {
    "pictures": _pictures,
    "float_pictures": _floats,
    "one_hot": _one_hot,
    "fingerprints": _bits,
    "tokens": _tokens,
    "masked_tokens": _masked_tokens,
    "tables": _table,
    "sound": _sound,
}
"""By the names that the guide has for them."""

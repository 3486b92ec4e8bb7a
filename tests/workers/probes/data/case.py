"""One probe file: what is in it, and what is to come of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Case:
    """A file that is read, at once or after an answer.

    Attributes:
        kind: Key of the guide's row that it stands for.
        name: What is particular about it.
        make: Writes the file.
        x: The inputs as they are stored, from the data that was written; None if nothing helps.
        y: The targets: class numbers or values; None without.
        spec: What is said of it.
        written: What the completed spec says, among other things.
        refused: Words of the refusal without an answer.
        hint: Words of its hint.
        answer: Keys that the hint says to set; with them it is read.
    """

    kind: str
    name: str
    make: Callable[[], bytes]
    x: np.ndarray | None = None
    y: np.ndarray | None = None
    spec: Mapping[str, Any] = field(default_factory=dict)
    written: Mapping[str, Any] = field(default_factory=dict)
    refused: str | None = None
    hint: str = ""
    answer: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"

"""What models answer, and how people store what it is compared with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Link = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Targets:
    """Targets of a probe, and what the report must say of the answers.

    Attributes:
        link: What the model does to the outputs of its last layer.
        stored: The array; `None` for a probe without targets.
        spec: What the probe has to say because nothing else can.
        task: What they are; `None` without.
        expected: Figures of the report's performance, by name.
        what: The kind, for messages.
    """

    link: Link
    stored: np.ndarray | None
    spec: dict[str, Any]
    task: str | None
    expected: dict[str, float]
    what: str


CLASS_LINKS: dict[str, Link] = {
    "identity": lambda u: u,
    "softmax": lambda u: u.softmax(1),
    "log_softmax": lambda u: u.log_softmax(1),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "negated": lambda u: -u,
}
BINARY_LINKS: dict[str, Link] = {
    "identity": lambda u: u,
    "sigmoid": torch.sigmoid,
    "1 - sigmoid": lambda u: 1 - torch.sigmoid(u),
}
VALUE_LINKS: dict[str, Link] = {
    "identity": lambda u: u,
    "sigmoid": torch.sigmoid,
    "softplus": functional.softplus,
    "exp": lambda u: torch.exp(u.clamp(max=5.0)),
}


def draw(outputs: Tensor, random: np.random.Generator) -> Targets:
    """Draws targets for a model whose last layer gives these outputs.

    Args:
        outputs: u of all samples, `[n, C]`.
        random: Decides everything else.
    """
    if random.random() < 0.08:
        return Targets(CLASS_LINKS["identity"], None, {}, None, {}, "no targets")
    if outputs.shape[1] == 1:
        return _of_one_output(outputs, random)
    kinds = (_classes, _classes, _classes, _labels, _values)
    return kinds[int(random.integers(len(kinds)))](outputs, random)


def _pick(links: dict[str, Link], random: np.random.Generator) -> tuple[str, Link]:
    name = str(random.choice(list(links)))
    return name, links[name]


def _noisy(decided: np.ndarray, classes: int, random: np.random.Generator) -> np.ndarray:
    """Labels that a model mostly gets right, all classes among them."""
    labels = np.where(
        random.random(len(decided)) < 0.8, decided, random.integers(0, classes, len(decided))
    )
    labels[:classes] = np.arange(classes)
    return labels


def _classes(outputs: Tensor, random: np.random.Generator) -> Targets:
    name, link = _pick(CLASS_LINKS, random)
    classes = outputs.shape[1]
    decided = link(outputs).argmax(1).numpy()
    labels = _noisy(decided, classes, random)
    spec: dict[str, Any] = {}
    how = str(random.choice(["ints", "floats", "from one", "text", "one-hot", "column", "bytes"]))
    stored: np.ndarray = labels.astype(str(random.choice(["int64", "int32", "uint64", "uint16"])))
    match how:
        case "floats":
            stored = labels.astype(np.float32)
        case "from one":
            stored = labels + 1
        case "text":
            stored = np.array([f"class {k}" for k in range(classes)])[labels]
        case "one-hot":
            stored = np.eye(classes)[labels].astype(str(random.choice(["f4", "i8", "bool", "u1"])))
        case "column":
            stored = labels[:, None]
        case "bytes":
            stored = labels.astype(np.uint8)
    expected = {"accuracy": float((decided == labels).mean())}
    return Targets(link, stored, spec, "classification", expected, f"{how} against {name}")


def _labels(outputs: Tensor, random: np.random.Generator) -> Targets:
    name, link = _pick({k: BINARY_LINKS[k] for k in ("identity", "sigmoid")}, random)
    said = (outputs > 0).numpy()
    labels = said ^ (random.random(said.shape) < 0.2)
    labels[0], labels[1] = True, False  # neither is one label of many
    stored = labels.astype(str(random.choice(["f4", "i8", "u1", "bool"])))
    expected = {
        "accuracy": float((said == labels).mean()),
        "subset_accuracy": float((said == labels).all(1).mean()),
    }
    return Targets(link, stored, {}, "multilabel", expected, f"several labels against {name}")


def _values(outputs: Tensor, random: np.random.Generator) -> Targets:
    name, link = _pick(VALUE_LINKS, random)
    answers = link(outputs).double().numpy()
    stored = answers + 0.1 * random.standard_normal(answers.shape)
    expected = {"loss": float(np.square(answers - stored).mean())}
    stored = stored.astype(str(random.choice(["float32", "float64"])))
    return Targets(link, stored, {}, "regression", expected, f"values against {name}")


def _of_one_output(outputs: Tensor, random: np.random.Generator) -> Targets:
    if random.random() < 0.4:
        found = _values(outputs, random)
        flat = found.stored[:, 0] if found.stored is not None else None
        return Targets(found.link, flat, {}, found.task, found.expected, found.what)
    name, link = _pick(BINARY_LINKS, random)
    decided = (outputs[:, 0] > 0).numpy()
    if name == "1 - sigmoid":
        decided = ~decided
    labels = _noisy(decided.astype(np.int64), 2, random)
    stored = labels.astype(str(random.choice(["i8", "f4", "bool", "u1", "f8"])))
    if random.random() < 0.2:
        stored = np.array(["no", "yes"])[labels]
    expected = {"accuracy": float((decided == labels).mean())}
    return Targets(link, stored, {}, "classification", expected, f"two classes against {name}")

"""The figures of the paper, and which of ours stand beside them."""

from collections.abc import Sequence
from dataclasses import dataclass

from .table import Figures, Row, number, table


@dataclass(frozen=True)
class Finding:
    """A figure of the paper.

    Attributes:
        what: The networks, in the order of the figures.
        paper: Its D_LR of each, or what it says in words.
        ours: For each the experiment and the epoch; None for the last.
        remark: Why ours differ.
    """

    what: str
    paper: str
    ours: Sequence[tuple[str, int | None]]
    remark: str


FINDINGS = (
    Finding(
        "MNIST, trained in full / last layer only",
        "0.0087 / 0.63",
        (("mnist-mlp", None), ("mnist-mlp-frozen", None)),
        "",
    ),
    Finding(
        "CIFAR-10, labels true / shuffled",
        "0.031 / 0.034",
        (("cifar10-resnet", None), ("cifar10-shuffled", None)),
        "",
    ),
    Finding(
        "ResNet at learning rate 0.005 / 0.05 / 0.2 (paper: CIFAR-100, ResNet-18)",
        "0.053 / 0.025 / 0.039",
        (
            ("cifar10-resnet-lr-0.005", None),
            ("cifar10-resnet", None),
            ("cifar10-resnet-lr-0.2", None),
        ),
        "",
    ),
    Finding(
        "without / with batch norm (paper: CIFAR-100, VGG16)",
        "0.66 / 0.073",
        (("cifar10-cnn", None), ("cifar10-cnn-norm", None)),
        "",
    ),
    Finding(
        "modular addition before / after grokking (paper: modulo 97)",
        "0.51 / 0.11",
        (("addition", 100), ("addition", None)),
        "",
    ),
    Finding(
        "fully connected on CIFAR-10",
        "stays EF",
        (("cifar10-mlp", None),),
        "",
    ),
    Finding(
        "ResNet on CIFAR-10 after 0, 1, 2, 4, 8, 16, 30 epochs",
        "MF within a few epochs",
        tuple(("cifar10-resnet", epoch) for epoch in (0, 1, 2, 4, 8, 16, 30)),
        "",
    ),
)


def markdown(found: Sequence[Row]) -> str:
    """Lay the findings out as a table, D_LR and regime of ours on the train probe."""
    headings = ("finding", "paper", "here: raw D_LR", "here: regime", "why they differ")
    return table(headings, [_cells(finding, found) for finding in FINDINGS])


def _cells(finding: Finding, found: Sequence[Row]) -> list[str]:
    figures = [_figures(found, *wanted) for wanted in finding.ours]
    return [
        finding.what,
        finding.paper,
        " / ".join("not run" if each is None else number(each.d_lr, 3) for each in figures),
        " / ".join("–" if each is None else each.regime for each in figures),
        finding.remark,
    ]


def _figures(found: Sequence[Row], name: str, epoch: int | None) -> Figures | None:
    rows = [row for row in found if row.experiment.name == name and epoch in {None, row.epoch}]
    return rows[-1].figures["train"] if rows else None

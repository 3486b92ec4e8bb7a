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
        probe: What ours were judged on.
        remark: How ours deviate, and why.
    """

    what: str
    paper: str
    ours: Sequence[tuple[str, int | None]]
    remark: str
    probe: str = "train"


FINDINGS = (
    Finding(
        "MNIST, fully connected: trained in full / last layer only",
        "0.0087 / 0.63",
        (("mnist-mlp", None), ("mnist-mlp-frozen", None)),
        "A sixth of the images. The leading features are those that are used, but of unequal "
        "strength, and D_LR counts that as distance too.",
    ),
    Finding(
        "MNIST, CNN with batch norm: trained in full / last layer only",
        "0.0087 / 0.63",
        (("mnist-cnn", None), ("mnist-cnn-frozen", None)),
        "Nearer with convolutions and batch norm, on a sixth of the images.",
    ),
    Finding(
        "CIFAR-10, ResNet: labels true / shuffled",
        "0.031 / 0.034",
        (("cifar10-resnet", None), ("cifar10-shuffled", None)),
        "8,000 images and 64 features; shuffled, 2,000 and 128. Both are minimal, as in the paper; "
        "labels learned by heart treat all classes alike, true ones do not, which makes the "
        "features unequal.",
    ),
    Finding(
        "ResNet at learning rate 0.005 / 0.05 / 0.2 (paper: CIFAR-100, ResNet-18)",
        "0.053 / 0.025 / 0.039",
        (
            ("cifar10-resnet-lr-0.005", None),
            ("cifar10-resnet", None),
            ("cifar10-resnet-lr-0.2", None),
        ),
        "Lowest in the middle, as in the paper; all are farther from minimal, with eight layers, "
        "8,000 images and 30 epochs. At 0.005 the network has not fitted all of its images yet.",
    ),
    Finding(
        "CNN without / with batch norm (paper: CIFAR-100, VGG16)",
        "0.66 / 0.073",
        (("cifar10-cnn", None), ("cifar10-cnn-norm", None)),
        "Five layers where VGG16 has sixteen, and a sixth of the images. Batch norm moves the "
        "features towards minimality, as in the paper, but a shallow network stops half way.",
    ),
    Finding(
        "modular addition before / after grokking (paper: modulo 97)",
        "0.51 / 0.11",
        (("addition", 100), ("addition", None)),
        "Not reproduced. Under this strong weight decay the network that generalises relies on a "
        "few frequencies of unequal strength, which is far from the projection onto all its "
        "outputs. And the features of so small a transformer are nearly a sum of one function of "
        "each number from the start, so they span little more than the outputs in any state.",
    ),
    Finding(
        "the same, only outputs above a tenth of the strongest counted (`output_tolerance`)",
        "0.51 / 0.11",
        (("addition", 100), ("addition", None)),
        "The direction of the paper: the outputs that generalise are few and strong, and D_LR as "
        "defined gives the faint ones equal weight.",
        "all, tolerance 0.1",
    ),
    Finding(
        "fully connected on CIFAR-10",
        "stays EF",
        (("cifar10-mlp", None),),
        "None.",
    ),
    Finding(
        "ResNet on CIFAR-10 after 0, 1, 2, 4, 8, 16, 30 epochs",
        "MF within a few epochs",
        tuple(("cifar10-resnet", epoch) for epoch in (0, 1, 2, 4, 8, 16, 30)),
        "An epoch is 63 steps here; one of all 50,000 images is 391.",
    ),
    Finding(
        "ResNet on MNIST after 0, 1, 2, 4, 8 epochs",
        "MF within a few epochs",
        tuple(("mnist-resnet", epoch) for epoch in (0, 1, 2, 4, 8)),
        "None.",
    ),
    *(
        Finding(what, paper, [(name, None) for name in names], "")
        for what, paper, names in (
            (
                "MNIST: trained in full / last layer only",
                "0.0087 / 0.63",
                ("mnist-mlp-whole", "mnist-mlp-whole-frozen"),
            ),
            (
                "CIFAR-10, ResNet-18: labels true / shuffled",
                "0.031 / 0.034",
                ("cifar10-resnet18", "cifar10-resnet18-shuffled"),
            ),
            (
                "CIFAR-100, ResNet-18 at learning rate 0.005 / 0.05 / 0.2",
                "0.053 / 0.025 / 0.039",
                ("cifar100-resnet18-lr-0.005", "cifar100-resnet18", "cifar100-resnet18-lr-0.2"),
            ),
            (
                "CIFAR-100, VGG16 without / with batch norm",
                "0.66 / 0.073",
                ("cifar100-vgg16", "cifar100-vgg16-norm"),
            ),
        )
    ),
    Finding(
        "addition modulo 97 before / after grokking",
        "0.51 / 0.11",
        (("addition-97", 200), ("addition-97", None)),
        "",
    ),
)


def markdown(found: Sequence[Row]) -> str:
    """Lay out as a table what was run of them, D_LR and regime of ours on the train probe."""
    headings = ("finding", "paper", "here: raw D_LR", "here: regime", "deviation")
    beside = (
        (each, [_figures(found, *wanted, each.probe) for wanted in each.ours]) for each in FINDINGS
    )
    return table(headings, [_cells(each, ours) for each, ours in beside if any(ours)])


def _cells(finding: Finding, figures: Sequence[Figures | None]) -> list[str]:
    return [
        finding.what,
        finding.paper,
        " / ".join("not run" if each is None else number(each.d_lr, 3) for each in figures),
        " / ".join("–" if each is None else each.regime for each in figures),
        finding.remark,
    ]


def _figures(found: Sequence[Row], name: str, epoch: int | None, probe: str) -> Figures | None:
    rows = [row for row in found if row.experiment.name == name and epoch in {None, row.epoch}]
    return rows[-1].figures.get(probe) if rows else None

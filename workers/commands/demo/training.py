"""Training a small CNN on handwritten digits, and a lazy twin whose features stay random."""

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

_TRAINING_SHARE = 0.8
_BATCH = 64
_WIDTH = 128
_CALIBRATION_PASSES = 30  # their running means then hold 96 % of these passes


@dataclass(frozen=True)
class Checkpoint:
    """A network at one moment of its training.

    Attributes:
        step: Epochs of training behind it.
        archive: TorchScript, as `torch.jit.save` writes it.
    """

    step: int
    archive: bytes


def network() -> nn.Sequential:
    """Build the network: two convolutions, a hidden layer, and the linear head."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, _WIDTH),
        nn.BatchNorm1d(_WIDTH),
        nn.ReLU(),
        nn.Linear(_WIDTH, 10),
    )


def train(*, lazy: bool, epochs: tuple[int, ...], seed: int = 0) -> Iterator[Checkpoint]:
    """Train, and yield a checkpoint after each of the given numbers of epochs.

    Args:
        lazy: Leave all layers but the head as they were initialised.
        epochs: Ascending; 0 is the initialisation.
        seed: Of initialisation and order of samples; both twins start equal.
    """
    torch.manual_seed(seed)
    model = network()
    images, labels = _training_images()
    with torch.no_grad():
        # Batch normalization knows its statistics from the start, so that the lazy twin's features
        # are usable without ever changing again.
        for _ in range(_CALIBRATION_PASSES):
            model(images)
    trained = model[-1].parameters() if lazy else model.parameters()
    optimizer = torch.optim.SGD(trained, lr=0.05, momentum=0.9, weight_decay=5e-4)
    for epoch in range(epochs[-1] + 1):
        if epoch in epochs:
            yield Checkpoint(epoch, _archive(model))
        # In evaluation mode those statistics stay frozen, too.
        model.train(not lazy)
        _train_epoch(model, optimizer, images, labels)


def _train_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor
) -> None:
    for rows in torch.split(torch.randperm(len(images)), _BATCH):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images[rows]), labels[rows])
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()


def _training_images() -> tuple[Tensor, Tensor]:
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    n = int(len(images) * _TRAINING_SHARE)
    return images[:n], labels[:n]


def _archive(model: nn.Module) -> bytes:
    model.eval()
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # TorchScript is deprecated in favour of torch.export, and still what most people have.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch")
        torch.jit.save(torch.jit.script(model), buffer)
    return buffer.getvalue()

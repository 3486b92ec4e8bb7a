"""Training a network, and keeping its archives along the way."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .data import Problem

_SETTLING_ROWS = 1000
_PROGRESS_SECONDS = 10.0


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        checkpoints: Epochs after which an archive is kept, ascending; 0 is the initialisation.
        optimizer: SGD with momentum 0.9 and a learning rate that falls to 0 along a cosine, or
            AdamW at a constant one.
        lr: Learning rate.
        weight_decay: Of the optimizer.
        batch: Samples a step; None for all of them.
        frozen: Train the last layer only.
    """

    checkpoints: tuple[int, ...]
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.05
    weight_decay: float = 5e-4
    batch: int | None = 128
    frozen: bool = False

    @property
    def epochs(self) -> int:
        return self.checkpoints[-1]


def train(
    model: nn.Module,
    problem: Problem,
    recipe: Recipe,
    directory: Path,
    report: Callable[[str], None],
) -> None:
    """Train a network, and write `EPOCH.pt` after each epoch that the recipe names.

    Args:
        model: As it is initialised.
        problem: Its training samples are trained on.
        recipe: How.
        directory: Of the archives.
        report: Takes lines of progress.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    inputs, labels = _tensors(problem, device)
    _settle(model, inputs(torch.arange(min(_SETTLING_ROWS, len(labels)))))
    trained = model
    if recipe.frozen:
        trained, inputs = _last_layer(model, inputs, len(labels))
    optimizer = _optimizer(trained, recipe)
    schedule = _schedule(optimizer, recipe)
    if 0 in recipe.checkpoints:
        _save(model, directory / "0.pt")
    said = began = time.monotonic()
    for epoch in range(1, recipe.epochs + 1):
        trained.train(not recipe.frozen)
        loss = _epoch(trained, optimizer, inputs, labels, recipe.batch)
        schedule.step()
        kept = epoch in recipe.checkpoints
        if kept:
            _save(model, directory / f"{epoch}.pt")
        now = time.monotonic()
        if kept or now - said > _PROGRESS_SECONDS:
            said = now
            report(f"epoch {epoch} of {recipe.epochs}, loss {loss:.4f}, {now - began:.0f} s")


def _epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: Callable[[Tensor], Tensor],
    labels: Tensor,
    batch: int | None,
) -> float:
    """Train one epoch, and return the loss of its last step."""
    loss = torch.zeros(())
    for rows in torch.split(torch.randperm(len(labels)), batch or len(labels)):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs(rows)), labels[rows])
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
    return loss.item()


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(), lr=recipe.lr, momentum=0.9, weight_decay=recipe.weight_decay
        )
    return torch.optim.AdamW(
        model.parameters(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
    )


def _schedule(
    optimizer: torch.optim.Optimizer, recipe: Recipe
) -> torch.optim.lr_scheduler.LRScheduler:
    if recipe.optimizer == "sgd":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs)
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)


def _tensors(problem: Problem, device: torch.device) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """How to get the inputs of some rows as the network takes them, and the labels of all."""
    stored = torch.from_numpy(problem.training.x).to(device)
    labels = torch.from_numpy(problem.training.y).to(device)
    if not problem.transform:
        return lambda rows: stored[rows], labels
    mean, std = (
        torch.tensor(problem.transform[name], device=device).view(-1, 1, 1)
        for name in ("mean", "std")
    )
    stored = stored.permute(0, 3, 1, 2)  # a view: channels stay last in memory, which is quicker
    return lambda rows: (stored[rows] / 255 - mean) / std, labels


def _last_layer(
    model: nn.Module, inputs: Callable[[Tensor], Tensor], n: int
) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """The head as a network of its own, whose inputs are the features."""
    *body, head = model.children()
    extract = nn.Sequential(*body).eval()
    with torch.no_grad():
        parts = torch.split(torch.arange(n), _SETTLING_ROWS)
        features = torch.cat([extract(inputs(rows)) for rows in parts])
    return head, lambda rows: features[rows]


def _settle(model: nn.Module, batch: Tensor) -> None:
    """Give batch norms the statistics of their inputs, so that the initialisation is usable."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        with torch.no_grad():
            model.train()(batch)
    for norm in norms:
        norm.momentum = 0.1


def _save(model: nn.Module, file: Path) -> None:
    training = model.training
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is; people still use it
        torch.jit.save(torch.jit.script(model.eval()), file)
    model.train(training)

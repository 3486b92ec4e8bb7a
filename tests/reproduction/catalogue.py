"""The experiments: which networks are trained on what, and what the paper lets expect of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from torch import nn

from .data import Addition, Images, Source
from .networks import AdditionTransformer, convolutional, multilayer, residual, vgg16
from .training import Recipe

Expected = Literal["MF", "EF", "MF, poor"]

_ALONG = (0, 1, 2, 4, 8)


@dataclass(frozen=True)
class Experiment:
    """One network trained on one problem.

    Attributes:
        name: Of its directory and of `--only`.
        title: For people.
        source: The problem.
        network: Builds it.
        recipe: How it is trained.
        expected: By epoch: what the paper, or measurements like it, let expect.
        tolerance: Judge it on all of its probes a second time, with outputs counted above this
            share of the strongest only.
    """

    name: str
    title: str
    source: Source
    network: Callable[[], nn.Module]
    recipe: Recipe
    expected: Mapping[int, Expected] = field(default_factory=dict)
    tolerance: float | None = None


def _frozen(full: Experiment) -> Experiment:
    """The same network with random features: only its last layer is trained."""
    recipe = Recipe((20,), "adamw", lr=0.01, weight_decay=0.0, frozen=True)
    return replace(
        full,
        name=f"{full.name}-frozen",
        title=f"{full.title}, features frozen",
        recipe=recipe,
        expected={20: "EF"},
    )


def _rates(middle: Experiment, rates: Mapping[float, Mapping[int, Expected]]) -> list[Experiment]:
    """The same network at other learning rates, of which only the end is looked at."""
    return [
        replace(
            middle,
            name=f"{middle.name}-lr-{lr:g}",
            title=f"{middle.title}, learning rate {lr:g}",
            recipe=replace(middle.recipe, lr=lr, checkpoints=(middle.recipe.epochs,)),
            expected=expected,
        )
        for lr, expected in rates.items()
    ]


_MNIST = Images("mnist", 10_000)
_FASHION = Images("fashion_mnist", 10_000)
_CIFAR10 = Images("cifar10", 8000)
_RESNET8 = (16, 32, 64)
_SMALL_CNN = (16, 32, 64)

_mnist_mlp = Experiment(
    "mnist-mlp",
    "MNIST, fully connected",
    _MNIST,
    partial(multilayer, 784, (512, 512), 10),
    Recipe((*_ALONG, 20)),
    {0: "EF", 20: "MF"},
)
_mnist_cnn = Experiment(
    "mnist-cnn",
    "MNIST, CNN with batch norm",
    _MNIST,
    partial(convolutional, (1, 28), _SMALL_CNN, 128, 10, norm=True),
    Recipe(_ALONG),
    {0: "EF", 4: "MF", 8: "MF"},
)
_mnist_resnet = Experiment(
    "mnist-resnet",
    "MNIST, ResNet-8",
    _MNIST,
    partial(residual, 1, _RESNET8, 10),
    Recipe(_ALONG),
    {0: "EF", 4: "MF", 8: "MF"},
)
_cifar_resnet = Experiment(
    "cifar10-resnet",
    "CIFAR-10, ResNet-8",
    _CIFAR10,
    partial(residual, 3, _RESNET8, 10),
    Recipe((*_ALONG, 16, 30)),
    {0: "EF", 30: "MF"},
)
_cifar_mlp = Experiment(
    "cifar10-mlp",
    "CIFAR-10, fully connected",
    _CIFAR10,
    partial(multilayer, 3072, (512, 512), 10),
    Recipe((0, 4, 30), lr=0.01),
    {0: "EF", 30: "EF"},
)
_cifar_cnn = Experiment(
    "cifar10-cnn",
    "CIFAR-10, CNN without batch norm",
    _CIFAR10,
    partial(convolutional, (3, 32), _SMALL_CNN, 256, 10, norm=False),
    Recipe((0, 4, 15), lr=0.02),
    {0: "EF", 15: "EF"},
)
_cifar_cnn_norm = Experiment(
    "cifar10-cnn-norm",
    "CIFAR-10, CNN with batch norm",
    _CIFAR10,
    partial(convolutional, (3, 32), _SMALL_CNN, 256, 10, norm=True),
    Recipe((0, 4, 15), lr=0.02),
    {0: "EF", 15: "MF"},
)
_shuffled = Experiment(
    "cifar10-shuffled",
    "CIFAR-10, ResNet-8, labels shuffled",
    Images("cifar10", 2000, "shuffled"),
    partial(residual, 3, (32, 64, 128), 10),  # what is to be learned by heart takes more weights
    Recipe((40,), batch=64),
    {40: "MF, poor"},
)
_cue = Experiment(
    "cifar10-cue",
    "CIFAR-10, ResNet-8, labels planted in pixels",
    Images("cifar10", 5000, "cue"),
    partial(residual, 3, _RESNET8, 10),
    Recipe((6,)),
    {6: "MF, poor"},
)
_fashion = Experiment(
    "fashion-resnet",
    "Fashion-MNIST, ResNet-8",
    _FASHION,
    partial(residual, 1, _RESNET8, 10),
    Recipe(_ALONG),
    {0: "EF", 8: "MF"},
)
_cifar100 = Experiment(
    "cifar100-resnet",
    "CIFAR-100, ResNet-8",
    Images("cifar100", 10_000),
    partial(residual, 3, (32, 64, 256), 100),  # fewer than 198 features could not tell MF from EF
    Recipe((0, 15)),
    {0: "EF"},
)
_addition = Experiment(
    "addition",
    "Addition modulo 59, transformer",
    Addition(59, 0.4),
    partial(AdditionTransformer, 59),
    Recipe((0, 100, 500, 1000, 1500, 2000), "adamw", lr=0.004, weight_decay=1.0, batch=None),
    {100: "EF", 2000: "MF"},
    tolerance=0.1,  # what it learns has a few strong outputs and many faint ones
)

DEFAULT = (
    _mnist_mlp,
    _frozen(_mnist_mlp),
    _mnist_cnn,
    _frozen(_mnist_cnn),
    _mnist_resnet,
    _fashion,
    _frozen(_fashion),
    _cifar_mlp,
    _cifar_cnn,
    _frozen(_cifar_cnn),
    _cifar_cnn_norm,
    _cue,
    _cifar_resnet,
    _frozen(_cifar_resnet),
    _shuffled,
    *_rates(_cifar_resnet, {0.005: {30: "MF"}, 0.2: {30: "MF"}}),
    _cifar100,
    _addition,
)

# What follows is for a GPU, with the networks and data of the paper.
_RESNET18 = (64, 128, 256, 512)
_LONG = (*_ALONG, 16, 32, 64, 200)


def _resnet18(classes: int) -> Callable[[], nn.Module]:
    return partial(residual, 3, _RESNET18, classes, blocks=2, strides=(1, 2, 2, 2))


_full_mnist = replace(
    _mnist_mlp,
    name="mnist-mlp-whole",
    source=Images("mnist"),
    recipe=Recipe((*_ALONG, 50)),
    expected={0: "EF", 50: "MF"},
)
_full_cifar10 = Experiment(
    "cifar10-resnet18",
    "CIFAR-10, ResNet-18",
    Images("cifar10"),
    _resnet18(10),
    Recipe(_LONG),
    {0: "EF", 200: "MF"},
)
_full_cifar100 = Experiment(
    "cifar100-resnet18",
    "CIFAR-100, ResNet-18",
    Images("cifar100"),
    _resnet18(100),
    Recipe(_LONG),
    {0: "EF", 200: "MF"},
)
_full_vgg = Experiment(
    "cifar100-vgg16",
    "CIFAR-100, VGG16 without batch norm",
    Images("cifar100"),
    partial(vgg16, 3, 100, norm=False),
    Recipe((0, 200), lr=0.01),
    {0: "EF", 200: "EF"},
)
_full_vgg_norm = replace(
    _full_vgg,
    name="cifar100-vgg16-norm",
    title="CIFAR-100, VGG16 with batch norm",
    network=partial(vgg16, 3, 100, norm=True),
    expected={0: "EF", 200: "MF"},
)

FULL = (
    _full_mnist,
    _frozen(_full_mnist),
    replace(_fashion, source=Images("fashion_mnist")),
    _full_cifar10,
    replace(
        _full_cifar10,
        name="cifar10-resnet18-shuffled",
        title="CIFAR-10, ResNet-18, labels shuffled",
        source=Images("cifar10", alteration="shuffled"),
        recipe=Recipe((200,)),
        expected={200: "MF, poor"},
    ),
    replace(_cifar_mlp, source=Images("cifar10")),
    _full_cifar100,
    *_rates(_full_cifar100, {0.005: {200: "MF"}, 0.2: {200: "MF"}}),
    _full_vgg,
    _full_vgg_norm,
    replace(
        _addition,
        name="addition-97",
        title="Addition modulo 97, transformer",
        source=Addition(97, 0.4),
        # Fewer than 192 features could not tell MF from EF.
        network=partial(AdditionTransformer, 97, 256),
        recipe=replace(_addition.recipe, checkpoints=(0, 200, 1000, 5000, 20_000), lr=0.001),
        expected={200: "EF", 20_000: "MF"},
    ),
)

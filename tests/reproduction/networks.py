"""The networks of the catalogue, small enough for a CPU."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

TOKENS_PER_SUM = 3  # a, b and the sign that asks for a + b


def multilayer(inputs: int, widths: Iterable[int], outputs: int) -> nn.Sequential:
    """Build a fully connected network with ReLU."""
    layers: list[nn.Module] = [nn.Flatten()]
    for width in widths:
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def convolutional(
    shape: tuple[int, int], widths: Iterable[int], hidden: int, outputs: int, *, norm: bool
) -> nn.Sequential:
    """Build convolutions that each halve the image, one fully connected layer, and a head.

    Args:
        shape: Channels and height of the square image.
        widths: Channels of each convolution.
        hidden: Width of the fully connected layer, which is the features.
        outputs: Classes.
        norm: Batch normalization after each layer but the head.
    """
    channels, side = shape
    layers: list[nn.Module] = []
    for width in widths:
        layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=not norm))
        if norm:
            layers.append(nn.BatchNorm2d(width))
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
        channels, side = width, side // 2
    layers += [nn.Flatten(), nn.Linear(channels * side**2, hidden, bias=not norm)]
    if norm:
        layers.append(nn.BatchNorm1d(hidden))
    return nn.Sequential(*layers, nn.ReLU(), nn.Linear(hidden, outputs))


class Residual(nn.Module):
    """A basic block: two convolutions with batch normalization around a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride > 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))


def residual(
    channels: int,
    widths: tuple[int, ...],
    outputs: int,
    *,
    blocks: int = 1,
    strides: tuple[int, ...] | None = None,
) -> nn.Sequential:
    """Build a ResNet: a stem, stages of basic blocks, a mean over the image, and a head.

    Args:
        channels: Of the image.
        widths: Channels of each stage; three stages of one block are a ResNet-8, four of two a
            ResNet-18.
        outputs: Classes.
        blocks: Of each stage.
        strides: Of the first block of each stage; all 2 unless given.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False),
        nn.BatchNorm2d(widths[0]),
        nn.ReLU(),
    ]
    channels = widths[0]
    for width, stride in zip(widths, strides or (2,) * len(widths), strict=True):
        layers.append(Residual(channels, width, stride))
        layers += [Residual(width, width, 1) for _ in range(blocks - 1)]
        channels = width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs)
    )


def vgg16(channels: int, outputs: int, *, norm: bool) -> nn.Sequential:
    """Build VGG16 for images of 32×32: its convolutions, and one linear head."""
    layers: list[nn.Module] = []
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=not norm))
            if norm:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU())
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels, outputs))


class AdditionTransformer(nn.Module):
    """A transformer of one layer without normalization that adds modulo a number.

    It takes tokens `(n, 2)`, int64, and answers at a third position, whose token is its own.

    Args:
        modulus: The number; also how many classes there are.
        width: Of the residual stream, which is the features.
        heads: Of the attention.
    """

    def __init__(self, modulus: int, width: int = 128, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.embedding = nn.Embedding(modulus + 1, width)
        self.position = nn.Parameter(torch.randn(TOKENS_PER_SUM, width) / width**0.5)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.attended = nn.Linear(width, width, bias=False)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.head = nn.Linear(width, modulus, bias=False)
        self.question: Tensor
        self.register_buffer("question", torch.tensor([modulus]))
        nn.init.normal_(self.embedding.weight, std=width**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        n = tokens.shape[0]
        asked = torch.cat([tokens, self.question.expand(n, 1)], 1)
        stream = self.embedding(asked) + self.position
        last = stream[:, -1]
        query = self.query(last).view(n, self.heads, 1, -1)
        key, value = self.key_value(stream).chunk(2, -1)
        key = key.reshape(n, 3, self.heads, -1).permute(0, 2, 3, 1)
        value = value.reshape(n, 3, self.heads, -1).transpose(1, 2)
        weights = torch.softmax(query @ key / query.shape[-1] ** 0.5, -1)
        last = last + self.attended((weights @ value).reshape(n, -1))
        last = last + self.contract(functional.relu(self.expand(last)))
        logits: Tensor = self.head(last)
        return logits

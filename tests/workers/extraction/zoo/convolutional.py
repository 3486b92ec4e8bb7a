"""Convolutional classifiers of the usual designs, on images of 3×16×16."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo.case import (
    TORCHSCRIPT_WAYS,
    USUAL_WAYS,
    Accepted,
    Case,
    cases,
    images,
    of_head,
    of_layer,
    series,
)


def conv_norm(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Vgg(nn.Module):
    """Φ is the last hidden layer of its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.classifier = nn.Sequential(
            nn.Linear(48, 32), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(32, 6)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.pool(self.convolutions(x)), 1))

    def features(self, x: Tensor) -> Tensor:
        return self.classifier[:3](self.pool(self.convolutions(x)).flatten(1))


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = conv_norm(inputs, outputs, stride=stride)
        self.second = conv_norm(outputs, outputs)
        self.shortcut = conv_norm(inputs, outputs, 1, stride) if stride != 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(functional.relu(self.first(x)))
        y += self.shortcut(x)
        return functional.relu(y)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_norm(3, 8), nn.ReLU(), nn.MaxPool2d(2))
        self.blocks = nn.Sequential(Block(8, 8, 1), Block(8, 16, 2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.pool(self.blocks(self.stem(x))), 1))

    def features(self, x: Tensor) -> Tensor:
        return self.blocks(self.stem(x)).mean([2, 3])


class DenseLayer(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, 6, 3, padding=1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.layers(x)], dim=1)


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            DenseLayer(8),
            DenseLayer(14),
            nn.AvgPool2d(2),
            DenseLayer(20),
            nn.BatchNorm2d(26),
        )
        self.classifier = nn.Linear(26, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.layers(x), inplace=True)
        return self.classifier(functional.adaptive_avg_pool2d(y, (1, 1)).flatten(1))

    def features(self, x: Tensor) -> Tensor:
        return self.layers(x).relu().mean([2, 3])


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(8, 4, 1)
        self.wide = nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), nn.Conv2d(8, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.pointwise(x), self.wide(x), self.pooled(x)], 1).relu()


class GoogLeNet(nn.Module):
    """Its auxiliary head takes part in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU())
        self.inception = Inception()
        self.auxiliary = nn.Linear(14, 6)
        self.head = nn.Linear(14, 6)

    def features(self, x: Tensor) -> Tensor:
        return functional.dropout(
            self.inception(self.stem(x)).mean([2, 3]), 0.2, training=self.training
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.features(x)
        if self.training:
            return self.head(h) + 0.3 * self.auxiliary(h)
        return self.head(h)


class Inverted(nn.Module):
    """An inverted residual with squeeze and excitation: a product of two branches, before Φ."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(conv_norm(8, 16, 1), nn.Hardswish())
        self.depthwise = nn.Sequential(conv_norm(16, 16, 3, 1, groups=16), nn.Hardswish())
        self.excite = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(16, 4, 1),
            nn.ReLU(),
            nn.Conv2d(4, 16, 1),
            nn.Hardsigmoid(),
        )
        self.project = conv_norm(16, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.expand(x))
        return x + self.project(y * self.excite(y))


class MobileNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv_norm(3, 8, 3, 2),
            nn.Hardswish(),
            Inverted(),
            Inverted(),
            conv_norm(8, 20, 1),
            nn.ReLU6(),
        )
        self.classifier = nn.Sequential(
            nn.Linear(20, 24), nn.Hardswish(inplace=True), nn.Dropout(0.2), nn.Linear(24, 6)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.layers(x).mean([2, 3]))

    def features(self, x: Tensor) -> Tensor:
        return self.classifier[:3](self.layers(x).mean([2, 3]))


class ConvNeXtBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(8, 8, 7, padding=3, groups=8)
        self.norm = nn.LayerNorm(8, eps=1e-6)
        self.expand, self.project = nn.Linear(8, 32), nn.Linear(32, 8)
        self.gamma = nn.Parameter(torch.full((8,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.gamma * self.project(functional.gelu(self.expand(y)))
        return x + y.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.blocks = nn.Sequential(ConvNeXtBlock(), ConvNeXtBlock())
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 6)

    def features(self, x: Tensor) -> Tensor:
        return self.norm(self.blocks(self.stem(x)).mean([-2, -1]))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Temporal(nn.Module):
    """A convolutional network over time, with group and instance norms and gated units."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(12, 16, 3, padding=1),
            nn.InstanceNorm1d(16, affine=True),
            nn.SiLU(),
            nn.Conv1d(16, 32, 3, padding=1),
            nn.GroupNorm(4, 32),
            nn.GLU(1),
        )
        self.head = nn.Linear(32, 6)

    def features(self, x: Tensor) -> Tensor:
        y = self.layers(x.transpose(1, 2))
        return torch.cat([y.mean(2), y.amax(2)], 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def convolutional() -> Iterator[Case]:
    for model, head in (
        (Vgg, "classifier.3"),
        (DenseNet, "classifier"),
        (GoogLeNet, "head"),
        (MobileNet, "classifier.3"),
        (ConvNeXt, "head"),
    ):
        ways = USUAL_WAYS if model in {MobileNet, ConvNeXt} else TORCHSCRIPT_WAYS
        yield from cases("convolutional", model, images, Accepted(of_layer(head)), *ways)
    yield from cases(
        "convolutional",
        ResNet,
        images,
        Accepted(of_layer("fc")),
        "scripted",
        "traced",
        "frozen",
        "frozen_trace",
        "exported",
    )
    yield from cases("convolutional", Temporal, series, Accepted(of_head))

"""Networks and inputs whose features are the same on every machine, to the last bit.

The features of an ordinary network are float32, and a machine that adds the same products in
another order gives others in the seventh digit. So would every figure be. Here weights are small
whole numbers divided by 8, and inputs small whole numbers divided by 4. All products and all their
sums are then multiples of one small power of two, and too small to need more than the 24 bits of a
float32: nothing is ever rounded, so order does not matter. ReLU, clamping, and averages over 2^k
positions keep it so.

What cannot be exact, as softmax, layer norm and attention, is in float64 here, where another order
of adding changes the sixteenth digit.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

Arrays = dict[str, np.ndarray]


def whole_numbers(seed: int, largest: int, *shape: int) -> np.ndarray:
    """Whole numbers from -largest to largest, as float64."""
    # The stream of this old generator never changes from one version of numpy to another.
    random = np.random.RandomState(seed)
    drawn: np.ndarray = random.randint(-largest, largest + 1, size=shape).astype(np.float64)
    return drawn


def quarters(seed: int, largest: int, *shape: int) -> np.ndarray:
    """Inputs: whole numbers divided by 4, as float32."""
    return (whole_numbers(seed, largest, *shape) / 4).astype(np.float32)


def unequal_labels(seed: int, classes: int, n: int) -> np.ndarray:
    """Labels of which the first classes are more frequent than the last; each class occurs."""
    share = np.arange(2 * classes, classes, -1, dtype=np.float64)
    bounds = np.cumsum(share / share.sum())
    places = (whole_numbers(seed, 5000, n) + 5000) / 10_001
    labels = np.minimum(np.searchsorted(bounds, places, side="right"), classes - 1)
    labels[:classes] = np.arange(classes)
    return labels.astype(np.int64)


def partly_wrong(seed: int, labels: np.ndarray) -> np.ndarray:
    """The same labels, a tenth of them moved on by one class."""
    wrong = whole_numbers(seed, 10, len(labels)) > 8
    moved: np.ndarray = np.where(wrong, (labels + 1) % (labels.max() + 1), labels)
    return moved


def about_means(
    seed: int, labels: np.ndarray, inputs: int, *, apart: int, noise: int
) -> np.ndarray:
    """Inputs about a mean for each class.

    Args:
        seed: Of means and noise.
        labels: `(n,)`.
        inputs: Numbers a sample.
        apart: The means' numbers lie between -apart / 4 and apart / 4.
        noise: The same of what is added.
    """
    means = quarters(seed, apart, int(labels.max()) + 1, inputs)
    given: np.ndarray = means[labels] + quarters(seed + 1, noise, len(labels), inputs)
    return given


def eighths(layer: nn.Linear | nn.Conv2d, seed: int, largest: int = 8) -> None:
    """Give a layer weights and biases that are whole numbers divided by 8."""
    shape = tuple(layer.weight.shape)
    _set(layer.weight, whole_numbers(seed, largest, *shape) / 8)
    _set(layer.bias, whole_numbers(seed + 1, largest, shape[0]) / 8)


def make_exact(seed: int, body: nn.Linear | nn.Conv2d, head: nn.Linear | nn.Conv2d) -> None:
    """Give both layers of a network such weights, and the head distinct outputs."""
    eighths(body, seed)
    eighths(head, seed + 2)
    distinct(head)


def distinct(head: nn.Linear | nn.Conv2d) -> None:
    """Add to a head's biases what is finer than sums of products of a network of two layers.

    So no two outputs of a sample are equal. Else the class would hang on rounding, once the outputs
    are put together again from eigenfunctions.
    """
    assert head.bias is not None
    outputs = len(head.bias)
    steps = 2.0 ** -(9 + (outputs - 1).bit_length())
    _set(head.bias, head.bias.detach().double().numpy() + steps * np.arange(outputs))


def _set(parameter: Tensor | None, values: np.ndarray) -> None:
    assert parameter is not None
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(values))


def multilayer(
    *widths: int, seed: int, nonlinearity: type[nn.Module] = nn.ReLU, largest: int = 8
) -> nn.Sequential:
    """A fully connected network with random weights, which are whole numbers divided by 8.

    Args:
        widths: Inputs, hidden layers, outputs.
        seed: Of the weights.
        nonlinearity: Between the layers.
        largest: Weights lie between -largest / 8 and largest / 8.
    """
    layers = [nn.Linear(inside, outside) for inside, outside in pairwise(widths)]
    for place, layer in enumerate(layers):
        eighths(layer, seed + 2 * place, largest)
    distinct(layers[-1])
    hidden = [module for layer in layers[:-1] for module in (layer, nonlinearity())]
    return nn.Sequential(*hidden, layers[-1])


def with_head_of_means(net: nn.Sequential, x: np.ndarray, labels: np.ndarray) -> nn.Sequential:
    """The same network with a last layer that points to the classes' means of its features.

    All outputs have another direction in common, since those to the means alone hardly differ from
    a sum of zero, and what is left of that would be rounding.
    """
    with torch.inference_mode():
        phi = net[:-1](torch.from_numpy(x)).double().numpy()
    head = net[-1]
    assert isinstance(head, nn.Linear)
    classes = range(head.out_features)
    means = np.stack([phi[labels == k].mean(0) for k in classes]) - phi.mean(0)
    common = whole_numbers(len(x), 24, head.in_features)
    _set(head.weight, (np.round(means * 8) + common) / 8)
    _set(head.bias, -np.round(means @ phi.mean(0)))
    distinct(head)
    return net


class Convolutional(nn.Module):
    """Two convolutions, an average over 4 × 4 positions, a last linear layer."""

    def __init__(self, channels: int, features: int, outputs: int, *, seed: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 6, 3, padding=1)
        self.second = nn.Conv2d(6, features, 3, stride=2, padding=1)
        self.head = nn.Linear(features, outputs)
        layers: Sequence[nn.Linear | nn.Conv2d] = (self.first, self.second, self.head)
        for place, layer in enumerate(layers):
            eighths(layer, seed + 2 * place, 4)
        distinct(self.head)

    def forward(self, x: Tensor) -> Tensor:
        maps = torch.relu(self.second(torch.relu(self.first(x))))
        outputs: Tensor = self.head(maps.mean((2, 3)))
        return outputs


class Dense(nn.Module):
    """Classes for each position of an image."""

    def __init__(self, features: int, outputs: int, *, seed: int) -> None:
        super().__init__()
        self.body = nn.Conv2d(2, features, 3, padding=1)
        self.head = nn.Conv2d(features, outputs, 1)
        make_exact(seed, self.body, self.head)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.head(torch.relu(self.body(x)))
        return outputs


class Deadened(nn.Module):
    """Some units of the hidden layer never fire, and some always give the same."""

    def __init__(self, inputs: int, features: int, outputs: int, *, seed: int) -> None:
        super().__init__()
        self.trunk = nn.Linear(inputs, features)
        self.head = nn.Linear(features, outputs)
        make_exact(seed, self.trunk, self.head)
        with torch.no_grad():
            self.trunk.bias[:3] = -1000.0
            self.trunk.weight[3:6] = 0.0
            self.trunk.bias[3:6] = torch.tensor([0.5, 1.0, 2.0])

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.head(torch.relu(self.trunk(x)))
        return outputs


class Normalised(nn.Module):
    """A softmax that is written out, after a head that has to be declared; in float64."""

    def __init__(self, inputs: int, features: int, outputs: int, *, seed: int) -> None:
        super().__init__()
        self.trunk = nn.Linear(inputs, features)
        self.head = nn.Linear(features, outputs)
        make_exact(seed, self.trunk, self.head)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        e = torch.exp(-self.head(torch.relu(self.trunk(x))) / 8)
        return e / e.sum(1, keepdim=True)


class Attentive(nn.Module):
    """One block of a transformer over 5 tokens, the mean of these, softmax; in float64."""

    def __init__(self, size: int, features: int, outputs: int, *, seed: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(size, size) for _ in range(3))
        self.before, self.after = nn.LayerNorm(size), nn.LayerNorm(features)
        self.wide = nn.Linear(size, features)
        self.head = nn.Linear(features, outputs)
        layers: Sequence[nn.Linear] = (self.query, self.key, self.value, self.wide, self.head)
        for place, layer in enumerate(layers):
            eighths(layer, seed + 2 * place)
        distinct(self.head)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        near = self.before(x)
        scores = self.query(near) @ self.key(near).transpose(1, 2) / 8
        mixed = x + torch.softmax(scores, -1) @ self.value(near)
        tokens = self.after(torch.relu(self.wide(mixed)))
        return torch.softmax(self.head(tokens.mean(1)), -1)

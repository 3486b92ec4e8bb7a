"""What the figures of all layers cost, as a ratio to the pass that is made anyway.

Run it by hand: `python tests/benchmarks/layers_cost.py`. Times are interleaved and their ratios'
median is printed, since machines drift.
"""

import io
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from workers.diagnostics.folds import Folds
from workers.diagnostics.layer_sums import LayerSums
from workers.extraction import discover, load_model
from workers.extraction.layers.watching import LayerTap, find_layers

REPEATS = 7


class Block(nn.Module):
    """A basic block of ResNet-18."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outside), nn.BatchNorm2d(outside)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += self.shortcut(x)
        return self.relu(out)


def resnet18() -> nn.Module:
    """For 32×32 images, as usual on CIFAR."""
    widths = (64, 64, 128, 256, 512)
    blocks = [
        block
        for k in range(1, 5)
        for block in (
            Block(widths[k - 1], widths[k], 1 if k == 1 else 2),
            Block(widths[k], widths[k], 1),
        )
    ]
    stem = (nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True))
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def mlp(width: int) -> nn.Module:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )


def measure(name: str, net: nn.Module, shape: tuple[int, ...], batch: int, batches: int) -> None:
    """Print the cost of one network."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is; people still use it
        torch.jit.save(torch.jit.script(net.eval()), file)
    file.seek(0)
    model = load_model(file)
    x = torch.randn(batch, *shape)
    targets = nn.functional.one_hot(torch.arange(batch) % 10, 10).float()
    extractor = discover(model, (x,))
    layers = find_layers(model, extractor, (x,))
    tap = LayerTap(layers.found, layers.operations)

    def extract(*, tapped: bool, summed: bool) -> None:
        folds = Folds(batch * batches)
        sums = LayerSums(
            [layer.p for layer in layers.found],
            n=batch * batches,
            in_folds=[True] * len(layers.found),
        )
        for _ in range(batches):
            extracted = extractor.run((x,), *([tap] if tapped else []))
            folds.update(extracted.phi, extracted.outputs, targets)
            if summed:
                sums.update(tap.take(batch), extracted.outputs, targets)
            elif tapped:
                tap.take(batch)
        folds.moments()
        if summed:
            list(sums.moments())

    ways: dict[str, Callable[[], None]] = {
        "Φ alone": lambda: extract(tapped=False, summed=False),
        "+ tap": lambda: extract(tapped=True, summed=False),
        "+ tap and sums": lambda: extract(tapped=True, summed=True),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    with torch.inference_mode():
        for repeat in range(-1, REPEATS):
            for way, run in ways.items():
                began = time.process_time()
                run()
                if repeat >= 0:
                    seconds[way].append(time.process_time() - began)
    base = seconds["Φ alone"]
    ratios = {
        way: statistics.median(a / b for a, b in zip(times, base, strict=True))
        for way, times in seconds.items()
    }
    each = 1e6 * statistics.median(base) / (batch * batches)
    print(  # noqa: T201 - it is what the script is for
        f"{name}, {len(layers.found)} layers: Φ alone {each:,.0f} µs a sample; "
        + "; ".join(f"{way} {ratio:.3f}×" for way, ratio in ratios.items())
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure("ResNet-18, 32×32", resnet18(), (3, 32, 32), 64, 4)
    for size in (512, 1024, 2048):
        measure(f"MLP, {size} wide", mlp(size), (784,), 256, 8)

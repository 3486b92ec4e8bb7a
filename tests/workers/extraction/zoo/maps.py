"""Heads that are convolutions, and outputs at every position of an image or a text."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo.case import Accepted, Batch, Case, Truth, cases, images, linear, series, tokens


def body() -> nn.Sequential:
    """[n, 3, 16, 16] to [n, 10, 4, 4]."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 10, 3, stride=2, padding=1),
        nn.GELU(),
    )


class Fcn(nn.Module):
    """A body, a convolution as head, and the mean over the map of its outputs."""

    def __init__(self, kernel: int = 1, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.body = body()
        self.head = nn.Conv2d(10, 5, kernel, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(self.head(self.body(x)), 1).flatten(1)


class FcnMean(Fcn):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)).mean(dim=(-2, -1))


class FcnPooledFirst(Fcn):
    """The convolution runs on the pooled map: a linear layer in another dress."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.adaptive_avg_pool2d(self.body(x), 1)).flatten(1)


class FcnAveragePool(Fcn):
    """A pooling whose window is the whole map, and a squeeze."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(self.head(self.body(x)), 4).squeeze(3).squeeze(2)


class FcnSoftmax(Fcn):
    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(super().forward(x), dim=1)


class FcnSoftmaxMean(FcnMean):
    def forward(self, x: Tensor) -> Tensor:
        return torch.log_softmax(self.head(self.body(x)).mean(dim=[2, 3]), dim=-1)


class FullKernel(Fcn):
    """The kernel is as large as the map, so the head sees all of it at once."""

    def __init__(self) -> None:
        super().__init__(kernel=4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)).flatten(1)


class PatchHead(Fcn):
    """A 3×3 head: Φ is the mean of the patches it sees."""

    def __init__(self) -> None:
        super().__init__(kernel=3)


class PaddedPatchHead(Fcn):
    def __init__(self) -> None:
        super().__init__(kernel=3, stride=2, padding=1)


def of_map(model: nn.Module, batch: Batch) -> Truth:
    head = model.head
    return linear(model.body(*batch).mean([2, 3]), head.weight.flatten(1), head.bias)


def of_patches(model: nn.Module, batch: Batch) -> Truth:
    head = model.head
    patches = functional.unfold(
        model.body(*batch), head.kernel_size, padding=head.padding, stride=head.stride
    )
    return linear(patches.mean(dim=2), head.weight.flatten(1), head.bias)


class OverTime(nn.Module):
    """A 1-d convolution as head over [n, 9, 12]."""

    def __init__(self, kernel: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(12, 10, 3, padding=1), nn.SiLU())
        self.head = nn.Conv1d(10, 5, kernel)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.transpose(1, 2))).mean(dim=2)


class LastInTime(OverTime):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.transpose(1, 2)))[:, :, -1]


class WholeTime(OverTime):
    """The kernel spans all of time."""

    def __init__(self) -> None:
        super().__init__(kernel=9)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.transpose(1, 2))).squeeze(2)


class WindowInTime(OverTime):
    def __init__(self) -> None:
        super().__init__(kernel=3)


def over_time(reduce: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Batch], Truth]:
    """Φ of a 1-d head: the windows it sees, [n, p, windows], and how the model reduces them."""

    def truth(model: nn.Module, batch: Batch) -> Truth:
        h = model.body(batch[0].transpose(1, 2))
        windows = h.unfold(2, model.head.kernel_size[0], 1).permute(0, 1, 3, 2).flatten(1, 2)
        return linear(reduce(windows), model.head.weight.flatten(1), model.head.bias)

    return truth


def mean_window(windows: Tensor) -> Tensor:
    return windows.mean(dim=2)


def last_window(windows: Tensor) -> Tensor:
    return windows[:, :, -1]


class Segmentation(Fcn):
    """Outputs at each of 4×4 places."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class SegmentationSoftmax(Fcn):
    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.head(self.body(x)), dim=1)


class SegmentationPatch(Segmentation):
    def __init__(self) -> None:
        super().__init__(kernel=3, padding=1)


class ChannelsLast(Fcn):
    """Outputs as [n, height, width, C]."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)).permute(0, 2, 3, 1)


class UpsampledFeatures(Fcn):
    """Features are enlarged before the head, so that the head comes last."""

    def forward(self, x: Tensor) -> Tensor:
        y = functional.interpolate(self.body(x), scale_factor=2.0, mode="bilinear")
        return self.head(y)


def everywhere(h: Tensor, model: nn.Module) -> Truth:
    """The truth of outputs at every place of [n, p, height, width], row by row."""
    phi = h.permute(0, 2, 3, 1).flatten(0, 2)
    return linear(phi, model.head.weight.flatten(1), model.head.bias)


def of_places(model: nn.Module, batch: Batch) -> Truth:
    return everywhere(model.body(*batch), model)


def of_upsampled(model: nn.Module, batch: Batch) -> Truth:
    h = functional.interpolate(model.body(*batch), size=(8, 8), mode="bilinear")
    return everywhere(h, model)


def of_places_patches(model: nn.Module, batch: Batch) -> Truth:
    patches = functional.unfold(model.body(*batch), 3, padding=1).transpose(1, 2).flatten(0, 1)
    return linear(patches, model.head.weight.flatten(1), model.head.bias)


class Tagger(nn.Module):
    """Outputs for each token, which sees its neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 12)
        self.layers = nn.Sequential(nn.Conv1d(12, 16, 3, padding=1), nn.GELU())
        self.head = nn.Linear(16, 5)

    def features(self, ids: Tensor) -> Tensor:
        return self.layers(self.embedding(ids).transpose(1, 2)).transpose(1, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.features(ids))


class TaggerClassesSecond(Tagger):
    """Outputs as [n, C, tokens], which a cross-entropy loss takes."""

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.features(ids)).transpose(1, 2).log_softmax(dim=1)


class TaggerSplit(Tagger):
    """Leaves out the first and the last token."""

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.features(ids)).split([1, 8, 1], dim=1)[1]


class TaggerUnbound(Tagger):
    """Of all tokens, the third one's outputs."""

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.features(ids)).unbind(1)[2]


class TaggerChunk(Tagger):
    """The mean over the second half of the tokens."""

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.features(ids)).chunk(2, dim=1)[1].mean(1)


def tagged(take: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Batch], Truth]:
    def truth(model: nn.Module, batch: Batch) -> Truth:
        phi = take(model.features(*batch))
        return linear(phi, model.head.weight, model.head.bias)

    return truth


def rows_of_map(result: Tensor) -> Tensor:
    return result.permute(0, 2, 3, 1).flatten(0, 2)


def rows_of_sequence(result: Tensor) -> Tensor:
    return result.transpose(1, 2).flatten(0, 1)


def rows_of_last(result: Tensor) -> Tensor:
    return result.flatten(0, -2)


def maps() -> Iterator[Case]:
    yield from _convolution_heads()
    yield from _dense()


def _convolution_heads() -> Iterator[Case]:
    family, ways = "convolution_heads", ("scripted", "frozen")
    pointwise = Accepted(of_map, kind="conv1x1")
    yield from cases(family, Fcn, images, pointwise)
    for model in (FcnMean, FcnPooledFirst, FcnAveragePool):
        yield from cases(family, model, images, pointwise, *ways)
    for model, link in ((FcnSoftmax, "softmax"), (FcnSoftmaxMean, "log_softmax")):
        expected = Accepted(of_map, link, "conv1x1")
        yield from cases(family, model, images, expected, "traced")
    for model, kind in (
        (FullKernel, "conv4x4"),
        (PatchHead, "conv3x3"),
        (PaddedPatchHead, "conv3x3"),
    ):
        expected = Accepted(of_patches, kind=kind)
        yield from cases(family, model, images, expected, *ways, "exported")
    for model, kind, reduce in (
        (OverTime, "conv1x1", mean_window),
        (LastInTime, "conv1x1", last_window),
        (WholeTime, "conv9", mean_window),
        (WindowInTime, "conv3", mean_window),
    ):
        expected = Accepted(over_time(reduce), kind=kind)
        yield from cases(family, model, series, expected, *ways)


def _dense() -> Iterator[Case]:
    family, ways = "dense", ("scripted", "traced")
    for model, link, kind, truth, places, rows in (
        (Segmentation, "identity", "conv1x1", of_places, 16, rows_of_map),
        (SegmentationSoftmax, "softmax", "conv1x1", of_places, 16, rows_of_map),
        (SegmentationPatch, "identity", "conv3x3", of_places_patches, 16, rows_of_map),
        (ChannelsLast, "identity", "conv1x1", of_places, 16, rows_of_last),
        (UpsampledFeatures, "identity", "conv1x1", of_upsampled, 64, rows_of_map),
    ):
        expected = Accepted(truth, link, kind, places, answer=rows)
        yield from cases(family, model, images, expected, *ways)
    expected = Accepted(of_places, kind="conv1x1", positions=16, answer=rows_of_map)
    yield from cases(family, Segmentation, images, expected, "exported")
    every = tagged(lambda h: h.flatten(0, 1))
    inner = tagged(lambda h: h[:, 1:9].flatten(0, 1))
    for model, link, truth, places, rows in (
        (Tagger, "identity", every, 10, rows_of_last),
        (TaggerClassesSecond, "log_softmax", every, 10, rows_of_sequence),
        (TaggerSplit, "identity", inner, 8, rows_of_last),
        (TaggerUnbound, "identity", tagged(lambda h: h[:, 2]), 1, rows_of_last),
        (TaggerChunk, "identity", tagged(lambda h: h[:, 5:].mean(1)), 1, rows_of_last),
    ):
        expected = Accepted(truth, link, positions=places, answer=rows)
        yield from cases(family, model, tokens, expected, *ways)
    expected = Accepted(inner, positions=8, answer=rows_of_last)
    yield from cases(family, TaggerSplit, tokens, expected, "exported")

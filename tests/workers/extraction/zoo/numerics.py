"""Other precisions, integer images, and quantized models."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo.case import (
    TORCHSCRIPT_WAYS,
    USUAL_WAYS,
    Accepted,
    Batch,
    Case,
    Headed,
    Truth,
    cases,
    images,
    linear,
    of_head,
    vectors,
)
from zoo.saving import quiet

HALVES = (torch.float16, torch.bfloat16)


def typed(dtype: torch.dtype) -> nn.Module:
    return Headed().to(dtype)


class Pixels(nn.Module):
    """Takes bytes, and normalises them itself."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))
        self.body = nn.Sequential(nn.Conv2d(3, 10, 3, 2, bias=False), nn.BatchNorm2d(10), nn.ReLU())
        self.head = nn.Linear(10, 5)

    def features(self, x: Tensor) -> Tensor:
        return self.body((x.float() / 255 - self.mean) / self.std).mean([2, 3])

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class PixelsLast(Pixels):
    """Takes them as [n, height, width, channels]."""

    def features(self, x: Tensor) -> Tensor:
        y = x.permute(0, 3, 1, 2).to(torch.float32).div(255)
        return self.body((y - self.mean) / self.std).mean([2, 3])


def bytes_of_images(rows: int) -> Batch:
    return (torch.randint(0, 256, (rows, 3, 16, 16), dtype=torch.uint8),)


def bytes_channels_last(rows: int) -> Batch:
    return (torch.randint(0, 256, (rows, 16, 16, 3), dtype=torch.uint8),)


class StoredInHalf(Headed):
    """Weights are kept in float16 and cast at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(self.head.weight.detach().half())
        self.bias = nn.Parameter(self.head.bias.detach().half())

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(self.trunk(x), self.weight.float(), self.bias.float())


def of_stored(model: nn.Module, batch: Batch) -> Truth:
    return linear(model.trunk(*batch), model.weight.float(), model.bias.float())


class HeadInBfloat16(Headed):
    """The trunk in float32, the head in bfloat16, its answer in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.head = self.head.to(torch.bfloat16)

    def features(self, x: Tensor) -> Tensor:
        return self.trunk(x).to(torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x)).float()


class HalfTrunk(Headed):
    """Takes float32, computes features in bfloat16, and ends in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = self.trunk.to(torch.bfloat16)

    def features(self, x: Tensor) -> Tensor:
        return self.trunk(x.to(torch.bfloat16)).float()


def dynamic_int8() -> nn.Module:
    with quiet():
        return torch.ao.quantization.quantize_dynamic(
            Headed().eval(), {nn.Linear}, dtype=torch.qint8
        )


def dynamic_head_only() -> nn.Module:
    with quiet():
        return torch.ao.quantization.quantize_dynamic(
            Headed().eval(), {"head": torch.ao.quantization.default_dynamic_qconfig}
        )


def dynamic_float16() -> nn.Module:
    with quiet():
        return torch.ao.quantization.quantize_dynamic(
            Headed().eval(), {nn.Linear}, dtype=torch.float16
        )


def of_dynamic(model: nn.Module, batch: Batch) -> Truth:
    """Φ is what the quantized layer is given; its weight, what it makes of int8."""
    weight, bias = model.head._weight_bias()  # the only way to a dynamic layer's weight
    weight = weight.dequantize() if weight.is_quantized else weight.float()
    return linear(model.trunk(*batch), weight, bias)


class Static(nn.Module):
    """A network with the stubs that static quantization asks for."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.enter = torch.ao.quantization.QuantStub()
        self.body, self.head = body, head
        self.leave = torch.ao.quantization.DeQuantStub()

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.head(self.body(self.enter(x))))


def static_int8(model: nn.Module, batch: Batch, fuse: list[list[str]]) -> nn.Module:
    with quiet():
        model = torch.ao.quantization.fuse_modules(model.eval(), fuse)
        model.qconfig = torch.ao.quantization.get_default_qconfig("x86")
        prepared = torch.ao.quantization.prepare(model)
        with torch.no_grad():
            prepared(*batch)
        return torch.ao.quantization.convert(prepared)


def static_mlp() -> nn.Module:
    body = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU())
    return static_int8(Static(body, nn.Linear(16, 5)), vectors(64), [["body.0", "body.1"]])


def static_cnn() -> nn.Module:
    body = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    fuse = [["body.0", "body.1", "body.2"], ["body.3", "body.4"]]
    model = Static(body, nn.Linear(12, 5))
    return static_int8(model, (torch.randn(64, 3, 16, 16),), fuse)


def of_static(model: nn.Module, batch: Batch) -> Truth:
    """Φ is the int8 input of the head; u, its int8 answer, rounded as the layer rounds it."""
    h = model.body(model.enter(*batch))
    head = model.head
    return Truth(h.dequantize(), head(h).dequantize(), head.weight().dequantize(), head.bias())


def numerics() -> Iterator[Case]:
    yield from _precisions()
    yield from _quantized()


def _precisions() -> Iterator[Case]:
    for dtype in (torch.float64, *HALVES):
        name = str(dtype).removeprefix("torch.")
        yield from cases(
            "precisions",
            lambda dtype=dtype: typed(dtype),
            lambda rows, dtype=dtype: (torch.randn(rows, 12, dtype=dtype),),
            Accepted(of_head, precision=name),
            *(USUAL_WAYS if dtype is torch.bfloat16 else TORCHSCRIPT_WAYS),
            name=name,
        )
    yield from cases(
        "precisions", StoredInHalf, vectors, Accepted(of_stored), *TORCHSCRIPT_WAYS, name="stored"
    )
    for model in (HeadInBfloat16, HalfTrunk):
        expected = Accepted(of_head, precision="bfloat16")
        yield from cases("precisions", model, vectors, expected, *TORCHSCRIPT_WAYS)
    found = Accepted(of_head)
    yield from cases("pixels", Pixels, bytes_of_images, found)
    yield from cases("pixels", PixelsLast, bytes_channels_last, found, *TORCHSCRIPT_WAYS)


def _quantized() -> Iterator[Case]:
    # A dynamic layer takes its scale from the whole batch.
    warnings = ("batch_dependent", "quantized")
    eight = Accepted(of_dynamic, precision="int8", warnings=warnings)
    half = Accepted(of_dynamic, precision="float16")
    yield from cases("quantized", dynamic_int8, vectors, eight, *TORCHSCRIPT_WAYS, name="dynamic")
    yield from cases(
        "quantized", dynamic_head_only, vectors, eight, *TORCHSCRIPT_WAYS, name="dynamichead"
    )
    yield from cases(
        "quantized", dynamic_float16, vectors, half, *TORCHSCRIPT_WAYS, name="dynamichalf"
    )

    static = Accepted(of_static, precision="int8", warnings=("quantized",))
    yield from cases("quantized", static_mlp, vectors, static, *TORCHSCRIPT_WAYS, name="staticmlp")
    yield from cases("quantized", static_cnn, images, static, *TORCHSCRIPT_WAYS, name="staticcnn")

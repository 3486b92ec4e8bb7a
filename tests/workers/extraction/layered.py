"""Networks whose layers hooks can see: blocks, gates, attention, recurrence, shared weights."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """A residual block as in ResNets, its activations in place."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(outside)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(outside)
        self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1), nn.BatchNorm2d(outside))
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        out += self.shortcut(x)
        return self.relu2(out)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block1, self.block2 = Block(3, 8), Block(8, 12)
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.adaptive_avg_pool2d(self.block2(self.block1(x)), 1)
        return self.fc(h.flatten(1))


class Gated(nn.Module):
    """Squeeze and excitation between normalisation and the residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.squeeze, self.relu = nn.Conv2d(3, 2, 1), nn.ReLU()
        self.excite, self.sigmoid = nn.Conv2d(2, 3, 1), nn.Sigmoid()
        self.act = nn.GELU()
        self.fc = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn(self.conv(x))
        pooled = functional.adaptive_avg_pool2d(h, 1)
        gate = self.sigmoid(self.excite(self.relu(self.squeeze(pooled))))
        return self.fc(self.act(h * gate + x).mean([2, 3]))


class Swish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


class TanhGelu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x * (1 + torch.tanh(0.79788456 * (x + 0.044715 * torch.pow(x, 3))))


class HandNorm(nn.Module):
    """Layer normalisation in single operations, as some networks spell it."""

    def __init__(self, p: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.rand(p) + 0.5), nn.Parameter(torch.randn(p))

    def forward(self, x: Tensor) -> Tensor:
        deviation = x - x.mean(-1, keepdim=True)
        variance = deviation.pow(2).mean(-1, keepdim=True)
        return self.scale * (deviation / torch.sqrt(variance + 1e-5)) + self.shift


class Attention(nn.Module):
    """A transformer block with the normalisation first."""

    def __init__(self) -> None:
        super().__init__()
        self.ln1, self.ln2, self.ln3 = nn.LayerNorm(12), nn.LayerNorm(12), nn.LayerNorm(12)
        self.q, self.k, self.v = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 12)
        self.project = nn.Linear(12, 12)
        self.up, self.act, self.down = nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12)
        self.fc = nn.Linear(12, 5)

    def split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], -1, 3, 4).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.ln1(x)
        q, k, v = self.split(self.q(h)), self.split(self.k(h)), self.split(self.v(h))
        mixed = torch.softmax(torch.matmul(q, k.transpose(-2, -1)) / 2.0, -1).matmul(v)
        x = x + self.project(mixed.transpose(1, 2).flatten(2))
        x = x + self.down(self.act(self.up(self.ln2(x))))
        return self.fc(self.ln3(x).mean(1))


class Flattened(nn.Module):
    """Samples and positions share an axis while the layer runs."""

    def __init__(self) -> None:
        super().__init__()
        self.each, self.act, self.fc = nn.Linear(12, 6), nn.Sigmoid(), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.each(x.transpose(0, 1).flatten(0, 1)).view(4, -1, 6)
        return self.fc(self.act(h.transpose(0, 1)).mean(1))


class Shared(nn.Module):
    """One layer, executed twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.first, self.second = nn.Linear(12, 12), nn.ReLU(), nn.Tanh()
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.second(self.layer(self.first(self.layer(x)))))


class Recurrent(nn.Module):
    """Its sequence runs along the first axis, inside."""

    def __init__(self, cell: type[nn.Module], *, batch_first: bool) -> None:
        super().__init__()
        self.embed = nn.Linear(12, 7)
        self.rnn = cell(7, 6, num_layers=2, batch_first=batch_first)
        self.fc = nn.Linear(6, 5)
        self.batch_first = batch_first

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x if self.batch_first else x.transpose(0, 1))
        output, _ = self.rnn(h)
        return self.fc(output[:, -1] if self.batch_first else output[-1])


class Product(nn.Module):
    """Layers spelled as matrix products, one with the weight on the left."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Parameter(torch.randn(12, 9)), nn.Parameter(torch.randn(8, 9))
        self.b1, self.b2 = nn.Parameter(torch.randn(9)), nn.Parameter(torch.randn(8))
        self.first, self.second = nn.ReLU(), nn.ReLU(inplace=True)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(torch.addmm(self.b1, x, self.w1))
        return self.fc(self.second(torch.mm(self.w2, h.t()).t() + self.b2))

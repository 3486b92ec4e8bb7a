"""Transformers, mixers, recurrent networks and bags of words. Id 0 is padding."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo.case import (
    TORCHSCRIPT_WAYS,
    Accepted,
    Batch,
    Case,
    Truth,
    cases,
    images,
    linear,
    masked_tokens,
    of_head,
    series,
    tokens,
)


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        rows, length, width = x.shape
        qkv = self.qkv(self.norm(x)).view(rows, length, 3, 2, width // 2)
        q, k, v = qkv.permute(2, 3, 0, 1, 4).unbind(0)
        scores = q @ k.transpose(-2, -1) / (width / 2) ** 0.5
        if mask is not None:
            scores = scores.masked_fill(mask[None, :, None, :] == 0, -1e9)
        y = (torch.softmax(scores, -1) @ v).permute(1, 2, 0, 3).reshape(rows, length, width)
        x = x + self.project(y)
        return x + self.mlp(x)


class Vit(nn.Module):
    """Φ is the class token after the last norm."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.places = nn.Parameter(torch.randn(1, 17, 16) * 0.1)
        self.blocks = nn.Sequential(Attention(16), Attention(16))
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 6)

    def features(self, x: Tensor) -> Tensor:
        y = self.patches(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.token.expand(x.shape[0], -1, -1), y], dim=1) + self.places
        return self.norm(self.blocks(y))[:, 0]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class VitHeadOnTokens(Vit):
    """Puts the head on every token, and takes the class token's outputs."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.patches(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.token.expand(x.shape[0], -1, -1), y], dim=1) + self.places
        return self.head(self.norm(self.blocks(y)))[:, 0]


class Mixing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(16), nn.LayerNorm(16)
        self.tokens = nn.Sequential(nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 16))
        self.channels = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.first(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.second(x))


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.blocks = nn.Sequential(Mixing(), Mixing())
        self.head = nn.Linear(16, 6)

    def features(self, x: Tensor) -> Tensor:
        return self.blocks(self.patches(x).flatten(2).transpose(1, 2)).mean(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Encoder(nn.Module):
    """Tokens with a padding mask made from the ids; the mean over what is no padding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16, padding_idx=0)
        self.places = nn.Parameter(torch.randn(10, 16) * 0.1)
        self.blocks = nn.ModuleList([Attention(16), Attention(16)])
        self.head = nn.Linear(16, 6)

    def hidden(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.embedding(ids) + self.places[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, mask)
        return x

    def features(self, ids: Tensor) -> Tensor:
        mask = (ids != 0).long()
        weight = mask.unsqueeze(-1).to(torch.float32)
        return (self.hidden(ids, mask) * weight).sum(1) / weight.sum(1)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.features(ids))


class MaskedEncoder(Encoder):
    """Takes the mask as a second input."""

    def features(self, ids: Tensor, mask: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        weight = mask.unsqueeze(-1).to(torch.float32)
        return (self.hidden(ids, mask) * weight).sum(1) / weight.sum(1)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.features(ids, mask))


class EndOfText(Encoder):
    """Φ is the hidden state where the text ends: an index that depends on the input."""

    def features(self, ids: Tensor) -> Tensor:
        x = self.hidden(ids, (ids != 0).long())
        return x[torch.arange(ids.shape[0], device=ids.device), ids.argmax(dim=-1)]


class EndOfTextAfterHead(EndOfText):
    """Computes the outputs of every token, then takes those where the text ends."""

    def forward(self, ids: Tensor) -> Tensor:
        scores = self.head(self.hidden(ids, (ids != 0).long()))
        return scores[torch.arange(ids.shape[0], device=ids.device), ids.argmax(dim=-1)]


class EndOfTextGathered(EndOfText):
    """The same with `gather`."""

    def forward(self, ids: Tensor) -> Tensor:
        scores = self.head(self.hidden(ids, (ids != 0).long()))
        index = ids.argmax(dim=-1).view(-1, 1, 1).expand(-1, 1, scores.shape[2])
        return scores.gather(1, index).squeeze(1)


class TorchEncoder(nn.Module):
    """torch's own encoder, whose evaluation mode runs one fused operation per layer."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.embedding = nn.Embedding(50, 16, padding_idx=0)
        self.head = nn.Linear(16, 6)

    def features(self, ids: Tensor) -> Tensor:
        return self.encoder(self.embedding(ids), src_key_padding_mask=ids == 0)[:, 0]

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.features(ids))


class LastStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(12, 16, num_layers=2, batch_first=True, dropout=0.2)
        self.head = nn.Linear(16, 5)

    def features(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0][:, -1]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class StepwiseHead(LastStep):
    """Puts the head on every step, and takes the last one's outputs."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0])[:, -1, :]


class Gru(nn.Module):
    """Time first; both directions' last states."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(12, 10, bidirectional=True)
        self.head = nn.Linear(20, 5)

    def features(self, x: Tensor) -> Tensor:
        _, last = self.gru(x.transpose(0, 1))
        return torch.cat([last[0], last[1]], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Cells(nn.Module):
    """A recurrence written out."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(12, 16)
        self.head = nn.Linear(16, 5)

    def features(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.shape[0], 16)
        for step in range(x.shape[1]):
            h = self.cell(x[:, step], h)
        return h

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class BagOfWords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(50, 16, mode="mean", padding_idx=0)
        self.head = nn.Linear(16, 5)

    def features(self, ids: Tensor) -> Tensor:
        return self.bag(ids)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.features(ids))


class TextConvolution(nn.Module):
    """Convolutions over embedded words, the largest value of each over time."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.convolutions = nn.ModuleList([nn.Conv1d(16, 6, k, padding=k // 2) for k in (1, 3, 5)])
        self.head = nn.Linear(18, 5)

    def features(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids).transpose(1, 2)
        return torch.cat([c(x).relu().amax(2) for c in self.convolutions], dim=1)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.features(ids))


class WordScores(nn.Module):
    """A head on every word, the mean of its outputs over the words: Φ is the mean word."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(functional.silu(self.embedding(ids))).mean(dim=1)


def word_scores(model: nn.Module, batch: Batch) -> Truth:
    phi = functional.silu(model.embedding(batch[0])).mean(dim=1)
    return linear(phi, model.head.weight, model.head.bias)


def sequential() -> Iterator[Case]:
    found = Accepted(of_head)
    yield from cases("vision_transformer", Vit, images, found)
    for image_model in (VitHeadOnTokens, Mixer):
        yield from cases("vision_transformer", image_model, images, found, *TORCHSCRIPT_WAYS)
    for text_model in (Encoder, EndOfTextAfterHead):
        yield from cases("text", text_model, tokens, found)
    for text_model in (EndOfText, TextConvolution, BagOfWords):
        ways = ("scripted", "frozen")
        yield from cases("text", text_model, tokens, found, *ways)
    yield from cases(
        "text", EndOfTextGathered, tokens, found, "scripted", "traced", name="gathered"
    )
    yield from cases("text", TorchEncoder, tokens, found, "scripted", "traced")
    ways = ("scripted", "frozen")
    yield from cases("text", WordScores, tokens, Accepted(word_scores), *ways)
    yield from cases(
        "several_inputs", MaskedEncoder, masked_tokens, found, "scripted", "exported", name="masked"
    )
    yield from cases("recurrent", LastStep, series, found)
    for recurrent in (StepwiseHead, Gru):
        yield from cases("recurrent", recurrent, series, found, *TORCHSCRIPT_WAYS)
    yield from cases("recurrent", Cells, series, found, "scripted", "traced")

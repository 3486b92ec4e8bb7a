"""The product's side of the zoo: opening an archive, and declaring what is meant."""

import io
import zipfile
from typing import Any

import torch
from torch import nn

import workers.extraction
from zoo.saving import quiet


def load(archive: bytes) -> nn.Module:
    """Opens an archive as the product does."""
    if hasattr(workers.extraction, "load_model"):
        return workers.extraction.load_model(io.BytesIO(archive))
    # Until the product reads torch.export archives itself.
    file = io.BytesIO(archive)
    if zipfile.is_zipfile(file) and any("models/" in n for n in zipfile.ZipFile(file).namelist()):
        with quiet():
            return torch.export.load(io.BytesIO(archive)).module()
    return workers.extraction.load_torchscript(io.BytesIO(archive))


def discover(
    model: nn.Module, batch: tuple[torch.Tensor, ...], choice: dict[str, str]
) -> workers.extraction.Extractor:
    if not choice:
        return workers.extraction.discover(model, batch)
    from service.analyses.schemas import FeatureMapChoice  # noqa: PLC0415  # not in every version

    declared: Any = FeatureMapChoice(**choice)
    return workers.extraction.discover(model, batch, choice=declared)

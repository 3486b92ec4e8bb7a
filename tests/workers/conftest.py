import io
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from sqlalchemy import Engine, create_engine
from torch import Tensor, nn

from service.local import LocalDatabases
from service.platform.migration import upgrade
from workers.extraction import load_model

Archive = Callable[..., nn.Module]


def exported(model: nn.Module, example: Tensor) -> bytes:
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (example,), dynamic_shapes=({0: batch},))
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


def to_bytes(model: nn.Module, how: str, example: Tensor) -> bytes:
    if how == "exported":
        return exported(model, example)
    with warnings.catch_warnings():
        # torch announces the end of TorchScript at each of these calls.
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        # The tracer cannot tell that a random or training-mode model is meant to be one.
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        if how == "traced":
            script = torch.jit.trace(model, example, check_trace=False)
        else:
            script = torch.jit.script(model)
        if how == "frozen":
            script = torch.jit.freeze(script)
        file = io.BytesIO()
        torch.jit.save(script, file)
    return file.getvalue()


@pytest.fixture
def archive() -> Archive:
    """Saves a module in one of the ways, and loads the archive as the product does."""

    def make(
        model: nn.Module, example: Tensor, how: str = "scripted", *, train: bool = False
    ) -> nn.Module:
        content = to_bytes(model.train(train), how, example)
        return load_model(io.BytesIO(content))

    return make


@pytest.fixture(scope="session")
def shared_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One database, with all its tables, for the tests that empty those they use."""
    with LocalDatabases(tmp_path_factory.mktemp("workers")) as local:
        engine = create_engine(local.database_url)
        upgrade(engine)
        yield engine
        engine.dispose()

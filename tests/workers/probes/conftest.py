import io
from collections.abc import Callable

import numpy as np
import pytest
import safetensors.numpy

Save = Callable[..., io.BytesIO]


def save_npz(**arrays: object) -> io.BytesIO:
    file = io.BytesIO()
    np.savez(file, **{name: np.asarray(array) for name, array in arrays.items()})
    return file


def save_safetensors(**arrays: object) -> io.BytesIO:
    return io.BytesIO(
        safetensors.numpy.save({name: np.ascontiguousarray(a) for name, a in arrays.items()})
    )


@pytest.fixture
def npz() -> Save:
    return save_npz


@pytest.fixture(params=["npz", "safetensors"])
def save(request: pytest.FixtureRequest) -> Save:
    """Writes a probe in each of the formats."""
    return {"npz": save_npz, "safetensors": save_safetensors}[request.param]

"""Gives arrays to models as an analysis does, and says what the features then are."""

import io
import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from support import npz, scripted
from torch import Tensor, nn

from service.contract.failures import Failure
from service.contract.probe_spec import ProbeSpec
from workers.analysis.inputs import Fitted, fit
from workers.extraction import discover, load_model
from workers.probes.probe import ProbeData, inspect_probe, load_probe
from workers.protocol.arguments import ProbeLimits
from workers.protocol.errors import JobError

_KEY = re.compile(r'"([a-z_]+)": ')


@dataclass(frozen=True)
class Given:
    """What a model got, and its features of all samples, `[n, p]`."""

    fitted: Fitted
    phi: Tensor

    @property
    def done(self) -> str:
        """What was done to the only input, in words."""
        (only,) = self.fitted.inputs
        return only.done

    @property
    def arrays(self) -> dict[str, str]:
        """The array of each argument."""
        return {each.argument: each.array for each in self.fitted.inputs}


def registered(content: bytes, spec: dict[str, Any] | None) -> ProbeData:
    """A probe as an analysis reads it: with the spec that its validation wrote back."""
    given = ProbeSpec.model_validate(spec or {})
    written = inspect_probe(io.BytesIO(content), given, ProbeLimits()).spec
    again = ProbeSpec.model_validate(written.model_dump(mode="json"))
    return load_probe(io.BytesIO(content), again, ProbeLimits())


def give(
    model: nn.Module | bytes, spec: dict[str, Any] | None = None, **arrays: np.ndarray
) -> Given:
    """Runs a model on arrays."""
    return give_file(model, npz(**arrays), spec)


def give_file(
    model: nn.Module | bytes, content: bytes, spec: dict[str, Any] | None = None
) -> Given:
    """Runs a model on a file of samples."""
    archive = model if isinstance(model, bytes) else scripted(model)
    loaded = load_model(io.BytesIO(archive))
    fitted = fit(loaded, registered(content, spec))
    batches = [inputs for inputs, _ in fitted.probe.batches(64)]
    extractor = discover(fitted.model, batches[0])
    return Given(fitted, torch.cat([extractor.run(batch).phi for batch in batches]))


def refused(
    model: nn.Module | bytes, spec: dict[str, Any] | None = None, **arrays: np.ndarray
) -> Failure:
    """The failure of a model that is not run."""
    return refused_file(model, npz(**arrays), spec)


def refused_file(
    model: nn.Module | bytes, content: bytes, spec: dict[str, Any] | None = None
) -> Failure:
    """The failure of a model that is not run on a file of samples."""
    with pytest.raises(JobError) as caught:
        give_file(model, content, spec)
    return caught.value.failure


def specs_in(hint: str | None) -> list[dict[str, Any]]:
    """The spec keys that a hint spells out, taken literally: one dictionary an alternative."""
    assert hint is not None
    found: list[dict[str, Any]] = [{}]
    at = 0
    while (match := _KEY.search(hint, at)) is not None:
        try:
            value, at = json.JSONDecoder().raw_decode(hint, match.end())
        except json.JSONDecodeError:
            at = match.end()
            continue
        if match[1] in found[-1]:
            found.append({})
        found[-1][match[1]] = value
    return found


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> bool:
    """Whether features agree, relative to their size."""
    distance = torch.linalg.vector_norm(found.double() - expected.double())
    return bool(distance <= tolerance * torch.linalg.vector_norm(expected.double()))

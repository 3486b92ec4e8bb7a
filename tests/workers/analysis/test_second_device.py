"""Figures that are found on another device than the CPU are the same ones.

Whatever forgets where its tensors are fails here, without a GPU.
"""

from itertools import islice

import pytest
import torch

from tests.golden.cases import CASES
from tests.golden.reports import differences, read
from tests.pretended_device import second_device
from workers.analysis import job
from workers.diagnostics.spectra import FEW_FEATURES

_SHOWN = 25


@pytest.mark.parametrize("name", CASES)
def test_report_is_that_of_the_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case, kept = CASES[name](), read(name)
    case.archive  # noqa: B018 - tracing, done now, is not for a second device
    with second_device() as device:
        monkeypatch.setattr(job, "choose_device", lambda *_: device)
        found = case.report()
    assert found["provenance"]["solver"].pop("device") == device.type
    assert kept["provenance"]["solver"].pop("device") == "cpu"
    nearly = kept["feature_map"]["p"] > FEW_FEATURES
    different = list(islice(differences(kept, found, nearly=nearly), _SHOWN))
    assert not different, "\n".join(different)


def test_the_second_device_refuses_what_is_elsewhere() -> None:
    here = torch.arange(3.0)
    with second_device() as device:
        there = here.to(device)
        with pytest.raises(RuntimeError, match="both devices"):
            there + here
        with pytest.raises(RuntimeError, match="not supported"):
            there.numpy()
        assert (there + torch.ones(3, device=device)).cpu().tolist() == [1.0, 2.0, 3.0]

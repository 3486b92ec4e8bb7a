"""Arrays in the formats that hold nothing else."""

import io

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch

from tests.workers.probes.data.case import Case
from tests.workers.probes.data.parquet import FEATURES, GRID, LABELS

CASES = [
    Case(
        "npz",
        "inputs and labels",
        lambda: saved(x=FEATURES, y=LABELS),
        FEATURES,
        LABELS,
        written={"format": "npz", "input": "x", "target": "y"},
    ),
    Case("npz", "compressed", lambda: saved(compressed=True, x=GRID, y=LABELS), GRID, LABELS),
    Case(
        "npz",
        "two arrays that could be the targets",
        lambda: saved(data=FEATURES, y=LABELS, labels=LABELS + 1),
        FEATURES,
        LABELS,
        refused="Several arrays could be the targets: 'y', 'labels'",
        hint='"target": "y", and what the inputs are, as "input": "data"',
        answer={"target": "y", "input": "data"},
    ),
    Case(
        "npz",
        "training and test data",
        lambda: saved(x_train=FEATURES * 2, y_train=LABELS, x_test=FEATURES[:8], y_test=LABELS[:8]),
        FEATURES * 2,
        LABELS,
        refused="Several arrays could be the targets: 'y_train', 'y_test'",
        hint='"target": "y_train", and what the inputs are, as "input": "x_train"',
        answer={"target": "y_train", "input": "x_train"},
    ),
    Case(
        "npz",
        "inputs of which one has the name of the other's targets",
        lambda: saved(x_test=FEATURES, y_test=LABELS),
        FEATURES,
        None,
        spec={"input": ["x_test", "y_test"]},
        written={"target": None},
    ),
    Case(
        "safetensors",
        "inputs and labels",
        lambda: safetensors.numpy.save({"x": FEATURES, "y": LABELS}),
        FEATURES,
        LABELS,
        written={"format": "safetensors"},
    ),
    Case(
        "safetensors",
        "bfloat16",
        lambda: safetensors.torch.save(
            {"x": torch.from_numpy(FEATURES).bfloat16(), "y": torch.from_numpy(LABELS)}
        ),
        torch.from_numpy(FEATURES).bfloat16().float().numpy(),
        LABELS,
    ),
]


def saved(*, compressed: bool = False, **arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()

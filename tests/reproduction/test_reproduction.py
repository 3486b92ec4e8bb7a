"""Small experiments through the whole product."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from support import Digits, scripted

from reproduction.analyses import Analyst
from reproduction.catalogue import Experiment
from reproduction.data import Addition, Images
from reproduction.document import write
from reproduction.networks import AdditionTransformer, multilayer
from reproduction.table import HEADINGS, reached, rows, texts
from reproduction.training import Recipe, train
from service.client import Client

pytestmark = pytest.mark.xdist_group("stack")

EXPERIMENTS = (
    Experiment(
        "digits-mlp",
        "Digits, fully connected",
        Images("digits"),
        partial(multilayer, 64, (32,), 10),
        Recipe((0, 1, 2, 4)),
        {0: "EF"},
    ),
    Experiment(
        "sums",
        "Addition modulo 11",
        Addition(11, 0.5),
        partial(AdditionTransformer, 11, 32),
        Recipe((1,), "adamw", batch=None),
        {1: "MF"},  # which it cannot be after one step
    ),
    Experiment("absent", "Absent", Images("absent"), partial(multilayer, 1, (), 1), Recipe((0,))),
)


def test_entries_until_a_bound_are_counted() -> None:
    assert reached([0.5, 0.95, 1.0], 0.95) == 2
    assert reached([0.5, 0.6], 0.95) is None


def write_digits(directory: Path, digits: Digits) -> None:
    images, labels = (digits[0].reshape(-1, 8, 8, 1) * 255).astype(np.uint8), digits[1]
    parts = {"train": slice(0, 1000), "test": slice(1000, None)}
    arrays = {f"x_{name}": images[part] for name, part in parts.items()}
    arrays |= {f"y_{name}": labels[part] for name, part in parts.items()}
    np.savez(directory / "digits.npz", **arrays)


def test_archives_are_analysed_and_what_comes_out_is_written_down(
    client: Client, tmp_path: Path, digits: Digits
) -> None:
    write_digits(tmp_path, digits)
    out, page = tmp_path / "out", tmp_path / "guide" / "pages" / "reproduction.md"
    said: list[str] = []
    analyst = Analyst(client, out / "reports", said.append)
    for experiment in EXPERIMENTS[:2]:
        archives = out / "archives" / experiment.name
        archives.mkdir(parents=True)
        problem = experiment.source.load(tmp_path)
        torch.manual_seed(0)
        train(experiment.network(), problem, experiment.recipe, archives, said.append)
        analyst.start(experiment.name, archives, experiment.source.name, problem)
    assert analyst.collect() == 0
    write(EXPERIMENTS, out, page)

    *along, last, sums = rows(EXPERIMENTS, out / "reports")
    assert [row.epoch for row in (*along, last)] == [0, 1, 2, 4]
    before, after = along[0].figures["test"], last.figures["test"]
    assert before.accuracy is not None
    assert after.accuracy is not None
    assert before.accuracy < 0.4
    assert after.accuracy > 0.6
    report = json.loads((out / "reports" / "digits-mlp" / "4-test.json").read_text())
    assert report["probe"]["n"] == 797
    assert (after.d_lr, after.regime) == (
        report["alignment"]["d_lr"],
        report["verdict"]["regime"],
    )
    assert set(sums.reports) == {"train", "test", "all"}
    assert (along[0].as_expected, last.as_expected, sums.as_expected) == (True, None, False)

    text = page.read_text()
    assert text == (out / "reproduction.md").read_text()
    shown = [line for row in (*along, last, sums) for line in texts(row)]
    assert [f"| {' | '.join(line)} |" in text for line in shown] == [True] * 6
    assert shown[-1][HEADINGS.index("expected")] == "(probe: all)"
    assert "1 of 2 verdicts are as expected" in text
    assert "MF ✗" in text
    assert "Not run, for want of data: Absent." in text
    pictures = {"reproduction-training.svg", "reproduction-utilization.svg"}
    assert {file.name for file in (tmp_path / "guide" / "pictures").iterdir()} == pictures
    assert all(f"(/guide/pictures/{name})" in text for name in pictures)
    entries = json.loads((out / "reproduction.json").read_text())
    assert [entry["epoch"] for entry in entries] == [0, 1, 2, 4, 1]


def test_an_analysis_that_fails_is_counted_and_told(
    client: Client, tmp_path: Path, digits: Digits
) -> None:
    write_digits(tmp_path, digits)
    (tmp_path / "0.pt").write_bytes(scripted(multilayer(25, (30,), 10)))  # for images of 5×5
    said: list[str] = []
    analyst = Analyst(client, tmp_path / "reports", said.append)
    analyst.start("misfit", tmp_path, "digits", Images("digits").load(tmp_path))
    assert analyst.collect() == 2
    assert "input_mismatch" in said[0]
    assert list(rows(EXPERIMENTS, tmp_path / "reports")) == []

"""`phiscope probe make`, as people run it, and the program it starts."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from support import Stack, exported, scripted
from torch import nn
from torch.utils.data import TensorDataset

from tests.workers.probes.data.images import PNGS, X, Y, folders
from workers.commands.making import trial
from workers.commands.making.__main__ import main
from workers.runner.supervisor import Runner

pytestmark = pytest.mark.xdist_group("making")

MODULE = """
import torch
from torch.utils.data import TensorDataset

x = torch.randn(120, 6, generator=torch.Generator().manual_seed(0))
y = torch.arange(120) % 4
test_set = TensorDataset(x, y)

def build():
    return test_set

class Spoken(torch.utils.data.Dataset):
    classes = ["d", "c", "b", "a"]
    def __len__(self):
        return 120
    def __getitem__(self, row):
        return x[row], self.classes[y[row]]

spoken = Spoken()

def broken():
    raise KeyError("nothing")
"""


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.hidden = nn.Linear(6, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.hidden(x)))


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command; each option goes through it once in these tests."""
    return subprocess.run(
        [sys.executable, "-m", "service", "probe", "make", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mydata.py").write_text(MODULE)
    (tmp_path / "model.pt").write_bytes(scripted(Model()))
    return tmp_path


@dataclass(frozen=True)
class Ended:
    returncode: int
    stdout: str
    stderr: str


Make = Callable[..., Ended]


class SharedRunner(Runner):
    """One whose warm parent, which takes seconds to start, serves the next program, too."""

    def __exit__(self, *_: object) -> None:
        super().close()

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def shared_runner() -> Iterator[SharedRunner]:
    with SharedRunner() as runner:
        yield runner


@pytest.fixture
def make(
    folder: Path,
    shared_runner: SharedRunner,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Make:
    """Runs the program that the command starts, in this process."""

    def run_here(*arguments: str) -> Ended:
        monkeypatch.setattr(trial, "Runner", lambda: shared_runner)
        monkeypatch.chdir(folder)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, "mydata", raising=False)
        monkeypatch.setattr(sys, "argv", ["make", *arguments])
        status = main()
        printed = capsys.readouterr()
        return Ended(status, printed.out, printed.err)

    return run_here


def test_a_dataset_becomes_a_probe_that_a_model_is_tried_on(folder: Path) -> None:
    ended = run(folder, "mydata:build", "--model", "model.pt")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "120 samples" in ended.stdout
    assert "x  6  float32" in ended.stdout
    assert "classification, 4 classes" in ended.stdout
    with np.load(folder / "probe.npz") as arrays:
        x, y = torch.from_numpy(arrays["x"]), arrays["y"]
    accuracy = float((Model()(x).argmax(1).numpy() == y).mean())
    assert f"accuracy {accuracy:.4g}" in ended.stdout
    assert "Φ is found at head.weight: 12 features" in ended.stdout
    spec = json.loads((folder / "probe.spec.json").read_text())
    assert spec["transform"] == {}


def test_text_labels_are_numbered_as_the_dataset_says(make: Make) -> None:
    by_number = make("mydata:test_set", "--model", "model.pt")
    by_name = make("mydata:spoken", "--model", "model.pt")
    assert by_name.returncode == 0, by_name.stdout + by_name.stderr
    assert "labels  d 30, c 30" in by_name.stdout
    (accuracy,) = re.findall("accuracy .* samples", by_number.stdout)
    assert accuracy in by_name.stdout


class Normalising(nn.Module):
    """A network that has seen values from 0 to 1, as its batch norm tells."""

    def __init__(self, images: torch.Tensor) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8, momentum=0.5)
        self.head = nn.Linear(8, 4)
        with torch.no_grad():
            for _ in range(40):
                self.norm.train()(self.conv(images))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


IMAGES = torch.randint(0, 256, (120, 3, 8, 8), generator=torch.Generator().manual_seed(1)).byte()
CLASSES = torch.arange(120) % 4


def test_bytes_in_a_file_of_tensors_are_scaled_as_the_model_shows(folder: Path, make: Make) -> None:
    torch.save({"x": IMAGES, "y": CLASSES}, folder / "bytes.pt")
    model = Normalising(IMAGES / 255)
    (folder / "normalising.pt").write_bytes(scripted(model))
    ended = make("bytes.pt", "--model", "normalising.pt")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    with torch.inference_mode():
        outputs = model.eval()(IMAGES / 255)
    accuracy = float((outputs.argmax(1) == CLASSES).float().mean())
    loss = float(nn.functional.cross_entropy(outputs, CLASSES))
    assert f"accuracy {accuracy:.4g}, loss {loss:.4g} on 120 samples" in ended.stdout
    assert "÷ 255" in ended.stdout


def test_every_warning_of_the_report_is_printed(folder: Path, make: Make) -> None:
    # Not whole, so nothing but the batch norm shows that they are 255 times as large.
    np.savez(folder / "floats.npz", x=IMAGES.numpy() * np.float32(0.999), y=CLASSES.numpy())
    (folder / "normalising.pt").write_bytes(scripted(Normalising(IMAGES / 255)))
    ended = make("floats.npz", "--model", "normalising.pt")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "warning: value_range: " in ended.stdout
    assert "warning: Few samples" in ended.stdout


def test_an_exported_program_is_tried_too(folder: Path) -> None:
    (folder / "model.pt2").write_bytes(exported(Model(), torch.zeros(3, 6)))
    ended = run(folder, "mydata:test_set", "my.npz", "--model", "model.pt2", "--limit", "50")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Took 50 of 120 samples" in ended.stdout
    assert (folder / "my.spec.json").exists()


def test_a_model_that_does_not_take_it_is_said(folder: Path, make: Make) -> None:
    (folder / "other.pt").write_bytes(scripted(nn.Sequential(nn.Linear(5, 4), nn.ReLU())))
    ended = make("mydata:test_set", "--model", "other.pt")
    assert ended.returncode == 1
    assert "phiscope: " in ended.stdout
    assert "5" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr


def test_a_folder_of_pictures_is_packed_and_fitted_as_the_refusals_say(
    folder: Path, make: Make
) -> None:
    for name, content in folders(PNGS).items():
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "photos" / name).write_bytes(content)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )
    (folder / "grey.pt").write_bytes(scripted(model))
    ended = make("photos", "--model", "grey.pt")
    assert ended.returncode == 1
    assert "cat 4, dog 4, emu 4" in ended.stdout
    assert 'Set "image_mode": "L"' in ended.stdout
    spec = {
        "image_mode": "L",
        "transform": {"layout": "NHWC->NCHW", "dtype": "float32", "scale": "1/255"},
    }
    ended = run(folder, "probe.tar", "--model", "grey.pt", "--spec", json.dumps(spec))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    grey = [np.asarray(Image.fromarray(image).convert("L")) for image in X]
    with torch.inference_mode():
        outputs = model(torch.from_numpy(np.stack(grey)).unsqueeze(1).float() / 255)
    accuracy = float((outputs.argmax(1).numpy() == Y).mean())
    assert f"accuracy {accuracy:.4g}" in ended.stdout
    assert json.loads((folder / "probe.spec.json").read_text())["format"] == "imagefolder"


def test_a_saved_dataset_is_packed(folder: Path, make: Make) -> None:
    datasets.Dataset.from_dict({"x": [[1.0, 2.0]] * 8, "y": [0, 1] * 4}).save_to_disk(
        folder / "saved"
    )
    ended = make("saved", "saved.tar")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert json.loads((folder / "saved.spec.json").read_text())["format"] == "arrow"


def test_tensors_in_a_file(folder: Path, make: Make) -> None:
    torch.save({"x": torch.ones(8, 3), "y": torch.arange(8) % 2}, folder / "data.pt")
    ended = make("data.pt")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "8 samples" in ended.stdout


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("mydata:nothing", "The module mydata has no nothing"),
        ("nowhere:data", "No module named 'nowhere'"),
        ("nothing.npz", "nothing.npz is no file or folder"),
        ("model.pt", "holds more than tensors"),
        ("weights.pt", "holds the weights of a model"),
        (
            "dataset.pt",
            "more than tensors (an object of torch.utils.data.dataset.TensorDataset), and is not",
        ),
        ("damaged.pt", "holds more than tensors (what torch.load(weights_only=True) refuses)"),
        ("empty", "The folder empty is empty; expected images in folders"),
        ("mydata:broken", "mydata:broken raised KeyError: 'nothing'"),
    ],
)
def test_what_is_no_dataset_is_said(folder: Path, make: Make, source: str, words: str) -> None:
    torch.save(Model().state_dict(), folder / "weights.pt")
    torch.save(TensorDataset(torch.ones(3)), folder / "dataset.pt")
    (folder / "damaged.pt").write_bytes(b"PK and no more")
    (folder / "empty" / "within").mkdir(parents=True)
    ended = make(source)
    assert ended.returncode == 1
    assert words in ended.stdout.replace("\n", "")


@pytest.mark.xdist_group("stack")
def test_it_is_registered_where_that_is_asked_for(folder: Path, stack: Stack) -> None:
    ended = run(folder, "mydata:test_set", "--server", stack.url, "--name", "made-here")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Registered as made-here@1" in ended.stdout
    with stack.http() as http:
        assert http.get("/v1/probes/made-here").json()["spec"]["transform"] == {}

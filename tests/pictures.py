"""Makes the guide's pictures: networks through the whole product, and the charts it draws of them.

Run `python -m tests.pictures` in a checkout; it takes some minutes and rewrites
`service/guide/pictures/`.
"""

import io
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from support import npz, running_stack, scripted  # noqa: E402 - found once the path is set

from service.client import Client  # noqa: E402 - as above
from workers.commands.demo.training import network, train  # noqa: E402 - as above

PICTURES = ROOT / "service" / "guide" / "pictures"
EPOCHS = 16

# Which chart of which network the guide shows.
SHOWN = {
    "cnn": ("spectrum", "projections", "verdict", "layers", "compression"),
    "lazy": ("spectrum", "projections", "verdict", "compression"),
    "mark-reader": ("verdict", "projections"),
    "narrow": ("verdict",),
}


def marked(images: Tensor, labels: Tensor) -> Tensor:
    """Write each label into the image: one bright pixel of the first ones says the class."""
    images = images.clone()
    images.flatten(1)[:, :10] = nn.functional.one_hot(labels, 10).float() * 4
    return images


def mark_reader(images: Tensor, labels: Tensor) -> bytes:
    """Train a network where the mark tells the class, so that it need not look at the digit."""
    torch.manual_seed(0)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            # The digits are dealt out anew, so nothing but the mark has to do with the label.
            drawn = images[torch.randint(len(images), (len(rows),))]
            outputs = model(marked(drawn, labels[rows]))
            nn.functional.cross_entropy(outputs, labels[rows]).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
    return scripted(model)


def narrow(images: Tensor, labels: Tensor) -> bytes:
    """Train a network whose last layer is hardly wider than its outputs."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 14), nn.ReLU(), nn.Linear(14, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        for rows in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()  # type: ignore[no-untyped-call]  # as above
            optimizer.step()
    return scripted(model)


def main() -> None:
    """Train, analyse, and write the pictures."""
    torch.set_num_threads(1)
    # A shell that starts this in the background has it ignore Ctrl-C, which ends the stack.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(data.target)
    PICTURES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as directory,
        running_stack(Path(directory) / "data") as stack,
        stack.client() as client,
    ):
        # On the probe the marks are at random: they say nothing about the digits.
        wrong = torch.from_numpy(np.random.default_rng(0).integers(0, 10, len(labels)))
        content = npz(x=marked(images, wrong).numpy(), y=labels.numpy())
        random_marks = client.register_probe(
            io.BytesIO(content), name="random-marks", spec={"transform": {}}
        )["id"]
        for lazy, name in ((False, "cnn"), (True, "lazy")):
            (checkpoint,) = train(lazy=lazy, epochs=(EPOCHS,))
            run = "lazy twin" if lazy else "cnn"
            keep(client, name, checkpoint.archive, run=run, step=EPOCHS)
        keep(client, "mark-reader", mark_reader(images, labels), probe=random_marks)
        keep(client, "narrow", narrow(images, labels))


def keep(
    client: Client,
    name: str,
    archive: bytes,
    *,
    probe: str = "builtin:digits",
    run: str | None = None,
    step: int | None = None,
) -> None:
    """Analyse a network, say how it came out, and write its pictures."""
    title = "digits" if run else name
    model = client.upload_model(io.BytesIO(archive), name=title, run=run, step=step)
    started = client.wait(client.start(model["id"], probe, {"layers": "all"})["id"])
    say(name, client.report(started["id"]))
    there = {each["name"] for each in client.get(started["links"]["charts"])["items"]}
    for chart in SHOWN[name]:
        if chart in there:
            svg = client.chart(started["id"], chart)
            (PICTURES / f"{name}-{chart}.svg").write_text(svg + "\n", encoding="utf-8")


def say(name: str, report: dict[str, Any]) -> None:
    """Print the figures that the guide's text quotes."""
    figures, projections = report["verdict"]["minimality"], report["projections"]
    print(  # noqa: T201 - a program for the terminal
        f"{name}: {report['verdict']['regime']}"
        f", U' {figures['utilization_corrected']:.3f}, E {figures['energy']:.3f}"
        f", D {figures['distance']:.3f}, accuracy {report['performance']['accuracy']:.3f}"
        f", quality {projections['quality_at_dim_target']:.3f}"
        f" by chance {projections['quality_at_dim_target_chance']:.3f}"
        f"\n  {report['verdict']['reasons'][-1]}"
        f"\n  layers: {[round(layer['d_lr'], 2) for layer in report['layers']]}"
    )


if __name__ == "__main__":
    main()

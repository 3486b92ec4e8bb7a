"""The documents: the tables as Markdown, the rows as JSON, and pictures."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from . import earlier_rule, findings, table
from .catalogue import Experiment
from .data import Images
from .pictures import Dot, dots, lines
from .table import Row

_PICTURES = "/guide/pictures"
_GROKKING = (
    ("accuracy, train", "accuracy", "train"),
    ("accuracy, test", "accuracy", "test"),
    ("raw D_LR, all pairs", "d_lr", "all"),
    ("Ũ', all pairs", "tapered", "all"),
)
_LINE = 4  # checkpoints from which a curve is worth drawing

_INTRODUCTION = """\
# What the paper found, reproduced

Networks are trained, and each checkpoint is judged by this product, through its public API: once on
a probe of up to 5,000 training images, once on as many test images. The paper is Nam, Mingard, Lee,
Hayou and Louis, [arXiv 2410.04264](https://arxiv.org/abs/2410.04264), and its later version.
"""

_COMMAND = """\
## Do it again

```
python -m tests.reproduction --data DIR --out OUT
```

`DIR` holds `mnist.npz`, `cifar10.npz` (or `cifar10_subset.npz`, a part of it), and where there are
any `fashion_mnist.npz` and `cifar100.npz`, each with the arrays `x_train`, `y_train`, `x_test` and
`y_test` (images NHWC, uint8). What is missing is skipped. It takes half an hour on two cores;
`--full` trains networks of the paper's size, for which a GPU is needed. `OUT` keeps every archive
and every report, and `--analyse-only` judges the archives again.
"""


@dataclass(frozen=True)
class _Picture:
    name: str
    title: str
    svg: str

    @property
    def file(self) -> str:
        return f"reproduction-{self.name}.svg"


def write(experiments: Sequence[Experiment], out: Path, page: Path | None) -> None:
    """Write the documents from the reports in `out`.

    Args:
        experiments: In the order of the tables.
        out: Where they go: `reproduction.md`, `reproduction.json`, `reproduction-*.svg`.
        page: The guide's page; its pictures go to the directory `pictures` beside its own.
    """
    found = list(table.rows(experiments, out / "reports"))
    seen = {row.experiment.name for row in found}
    absent = [each.title for each in experiments if each.name not in seen]
    pictures = _pictures(found)
    text = _text(found, pictures, absent)
    for directory in [out, *([page.parent.parent / "pictures"] if page else [])]:
        directory.mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            (directory / picture.file).write_text(picture.svg)
    (out / "reproduction.md").write_text(text)
    (out / "reproduction.json").write_text(json.dumps(_plain(found), indent=1))
    if page:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text)


def _text(found: Sequence[Row], pictures: Sequence[_Picture], absent: Sequence[str]) -> str:
    judged = [row.as_expected for row in found if row.as_expected is not None]
    shown = "\n".join(f"![{each.title}]({_PICTURES}/{each.file})\n" for each in pictures)
    earlier = [row.was_as_expected for row in found if row.was_as_expected is not None]
    settled, settled_earlier = (
        sum(regime != "undetermined" for regime in regimes)
        for regimes in zip(
            *((each.regime, each.earlier) for row in found for each in row.figures.values()),
            strict=True,
        )
    )
    reports = sum(len(row.figures) for row in found)
    verdicts = (
        f"{sum(judged)} of {len(judged)} verdicts are as expected; ✗ marks the others. The rule "
        f"before this one, {earlier_rule.NAME}, judged U' and did not bound D by itself: of the "
        f"same figures it got {sum(earlier)} as expected. Of all {reports} reports this rule "
        f"settles {settled}, and the earlier one {settled_earlier}. Its bounds were chosen with "
        "most of these networks in view, so other networks are the better test."
    )
    not_run = f"Not run, for want of data: {'; '.join(absent)}.\n" if absent else ""
    return f"""{_INTRODUCTION}
## The paper against us

{findings.markdown(found)}
{shown}
## Every checkpoint

Figures are those of the train probe · test probe. {verdicts}

{table.markdown(found)}
{not_run}
{_COMMAND}"""


def _plain(found: Sequence[Row]) -> list[dict[str, object]]:
    return [
        {
            "experiment": row.experiment.name,
            "epoch": row.epoch,
            "expected": row.expected,
            "as_expected": row.as_expected,
            "probes": {probe: asdict(figures) for probe, figures in row.figures.items()},
        }
        for row in found
    ]


def _pictures(found: Sequence[Row]) -> list[_Picture]:
    """Draw what there is something to draw of."""
    images = [row for row in found if isinstance(row.experiment.source, Images)]
    sums = [row for row in found if not isinstance(row.experiment.source, Images)]
    pictures = []
    along = _along(images, "d_lr", "train")
    if along:
        title = "Raw D_LR along training, train probe"
        pictures.append(_Picture("training", title, lines(title, "epoch", along)))
    grokking = {
        label: points
        for label, name, probe in _GROKKING
        for points in _along(sums, name, probe).values()
    }
    if grokking:
        title = "Modular addition: what it knows, and its features"
        pictures.append(_Picture("grokking", title, lines(title, "step", grokking)))
    ends = [_dot(row) for row in {row.experiment.name: row for row in found}.values()]
    known = [dot for dot in ends if dot is not None]
    if known:
        title = "Ũ' at the end of training, 95 % interval, train probe (filled: MF; dashed: bounds)"
        thresholds = found[0].reports["train"]["verdict"]["thresholds"]
        bounds = (thresholds["ef_utilization"], thresholds["mf_utilization"])
        pictures.append(_Picture("utilization", title, dots(title, known, bounds)))
    return pictures


def _along(found: Sequence[Row], name: str, probe: str) -> dict[str, list[tuple[float, float]]]:
    """A figure along training, by experiment, where there are enough checkpoints for a line."""
    series: dict[str, list[tuple[float, float]]] = {}
    for row in found:
        value = getattr(row.figures[probe], name)
        if value is not None and len(row.experiment.recipe.checkpoints) >= _LINE:
            series.setdefault(row.experiment.title, []).append((row.epoch, value))
    return series


def _dot(row: Row) -> Dot | None:
    verdict = row.reports["train"]["verdict"]
    value = verdict["minimality"]["utilization_tapered"]
    interval = verdict["confidence_interval"]["utilization_tapered"]
    if value is None:
        return None
    low, high = interval or (value, value)
    return Dot(row.experiment.title, value, low, high, filled=verdict["regime"] == "MF")

"""`python -m tests.reproduction` trains, analyses, and writes tables, pictures and a page."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx
import torch

from service.client import ApiError, Client
from service.local.errors import LocalError

from .analyses import Analyst, product
from .catalogue import DEFAULT, FULL, Experiment
from .data import SEED, DataError, Problem
from .document import write
from .training import train

_SETTINGS = "training.json"  # written last, so that it tells complete archives
_BEGAN = time.monotonic()


def main() -> int:
    """Reproduce the findings; return the exit status."""
    arguments = _arguments(sys.argv[1:])
    torch.set_num_threads(1)  # the product's worker wants the other core
    catalogue = FULL if arguments.full else DEFAULT
    chosen = [each for each in catalogue if each.name in (arguments.only or [each.name])]
    try:
        failed = _reproduce(chosen, arguments)
    except (DataError, ApiError, httpx.TransportError, LocalError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    write(catalogue, arguments.out, arguments.page)
    _say(f"done, {failed} analyses failed; the tables are in {arguments.out / 'reproduction.md'}")
    return min(failed, 1)


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.reproduction", description=__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="directory of mnist.npz, fashion_mnist.npz, cifar10.npz and cifar100.npz (arrays "
        "x_train, y_train, x_test, y_test; images NHWC uint8); what is missing is skipped",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="directory for archives, reports and tables"
    )
    parser.add_argument("--full", action="store_true", help="the paper's sizes, for a GPU")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these experiments only")
    parser.add_argument(
        "--analyse-only", action="store_true", help="analyse the archives in OUT, train none"
    )
    parser.add_argument("--url", help="a running Phiscope; without it one is started")
    parser.add_argument("--page", type=Path, help="write the guide's page to this file, too")
    arguments = parser.parse_args(given)
    names = [experiment.name for experiment in (FULL if arguments.full else DEFAULT)]
    unknown = [name for name in arguments.only or () if name not in names]
    if unknown:
        parser.error(f"no experiment is called {', '.join(unknown)}; there are {', '.join(names)}")
    return arguments


def _reproduce(experiments: Sequence[Experiment], arguments: argparse.Namespace) -> int:
    """Train and analyse; return how many analyses failed."""
    out: Path = arguments.out
    with ExitStack() as undo:
        url = arguments.url or undo.enter_context(product(_say))
        client = undo.enter_context(Client(url))
        analyst = Analyst(client, out / "reports", _say)
        for experiment in experiments:
            missing = experiment.source.missing(arguments.data)
            archives = out / "archives" / experiment.name
            if missing is not None:
                _say(f"{experiment.name}: skipped, for {missing} is not in {arguments.data}")
                continue
            problem = experiment.source.load(arguments.data)
            if not arguments.analyse_only:
                _train_unless_done(experiment, archives, problem)
            elif not (archives / _SETTINGS).exists():
                _say(f"{experiment.name}: skipped, for it has not been trained into {archives}")
                continue
            analyst.start(
                experiment.name, archives, experiment.source.name, problem, experiment.tolerance
            )
        return analyst.collect()


def _train_unless_done(experiment: Experiment, archives: Path, problem: Problem) -> None:
    torch.manual_seed(SEED)
    model = experiment.network()
    done = archives / _SETTINGS
    settings = {
        "source": repr(experiment.source),
        "network": repr(model),
        "recipe": repr(experiment.recipe),
    }
    if done.exists() and json.loads(done.read_text()) == settings:
        _say(f"{experiment.name}: trained already")
        return
    archives.mkdir(parents=True, exist_ok=True)
    for stale in archives.iterdir():
        stale.unlink()
    train(
        model,
        problem,
        experiment.recipe,
        archives,
        lambda line: _say(f"{experiment.name}: {line}"),
    )
    done.write_text(json.dumps(settings, indent=1))


def _say(line: str) -> None:
    sys.stdout.write(f"{time.monotonic() - _BEGAN:6.0f} s  {line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

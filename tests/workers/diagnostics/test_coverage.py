"""95 % intervals hold the truth in 92 to 98 % of samples, whatever the figure.

The features are of known spectrum, in settings where the theory holds: more samples than features,
classes of some size, and no figure at the end of its range. `tests/benchmarks/coverage.py` has the
others.
"""

import torch

from tests.benchmarks.coverage import Coverage, measure, mixture

N = 1000
DRAWS = 300
CHANCE = 0.013  # one standard error of a share of 95 % among so many draws
COUNTS = (
    *("rank", "dim_target", "dim_learned"),
    *("k90_utilization", "k95_utilization", "k95_energy", "k99_agreement"),
)
# It is accuracy's interval, rescaled by the share of the sample's own largest class; the
# population's, which is smaller, makes another truth.
RESCALED = "verdict.assessment.skill"


def measured() -> dict[str, Coverage]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = measure(mixture(12, 4, noise=0.6, decay=0.5, stray=0.5), N, DRAWS)
    torch.set_num_threads(threads)
    return found


def test_every_figure_is_covered() -> None:
    """One test, because drawing the samples is what takes time."""
    covered = measured()
    shares = {
        name: found.share
        for name, found in covered.items()
        if name.split(".")[-1] not in COUNTS and name != RESCALED
    }
    assert len(shares) == 39
    low, high = 0.92 - CHANCE, 0.98 + CHANCE
    assert {name: share for name, share in shares.items() if not low <= share <= high} == {}
    assert 0.94 <= sum(shares.values()) / len(shares) <= 0.97
    # Bounds of whole numbers are rounded outwards.
    assert min(found.share for name, found in covered.items() if name.endswith(COUNTS)) >= 0.92
    # Every interval holds its figure.
    assert {found.draws for found in covered.values()} == {DRAWS}
    assert sum(found.astray for found in covered.values()) == 0

"""The constants of the MF/EF rule, which `workers.diagnostics.verdict` applies.

They are here, and import nothing of ours, so that what explains the rule renders what decides.
"""

from dataclasses import dataclass

# Raise it whenever a threshold or the order of the tests changes: reports name the rule they used.
RULE_VERSION = "UED-2"


@dataclass(frozen=True)
class Thresholds:
    """What decides. Bounds of 95 % intervals are compared, not the figures themselves.

    Evidence for the bands of E and D: 28 probes of networks trained for the purpose on MNIST,
    Fashion-MNIST and CIFAR-10/100, rich and lazy, and 24 small networks on digits. UED-2 judges the
    tapered utilization where UED-1 judged U', which left networks undetermined whose 9th and 10th
    eigenvalue nearly coincide; and it bounds D on both sides, where E alone called features minimal
    that span few directions because their input does. The guide's page on the paper's findings
    holds both verdicts of every network.
    """

    mf_utilization: float = 0.90  # Ũ' at or above, and one of the next two
    mf_energy: float = 0.755  # E at or above
    mf_distance: float = 0.12  # or D at or below
    mf_greatest_distance: float = 0.32  # and D at or below
    ef_utilization: float = 0.84  # Ũ' at or below, or both of the next two, or the third
    ef_energy: float = 0.715  # E at or below
    ef_distance: float = 0.20  # and D at or above
    ef_certain_distance: float = 0.40  # or D at or above
    min_samples: int = 100
    min_samples_per_dimension: int = 5
    min_rank_share: float = 0.9  # r of at least this share of the outputs less one
    min_rank_ratio: float = 2.0  # directions the features could use, in multiples of r
    # The rest only warns or words a reason. At 30 samples E was biased from 0.43 to 0.66.
    warn_samples: int = 500
    # Imbalance of 100 moved D from 0.06 to 0.34 and U from 0.97 to 0.84; 5 leaves a wide margin.
    warn_imbalance: float = 5.0
    warn_saturation: float = 0.9  # rank of the features as a share of n − 1
    # Chance-corrected Π*: 0.0 for shuffled labels on fresh images, 0.28 for the poorest honest
    # network.
    poor_quality: float = 0.25
    # Mislabelled classes leave quality untouched: from here on it contradicts answers that are no
    # better than guessing.
    good_quality: float = 0.5
    # Half the way from guessing to perfect: 0.51 for a fully connected network on CIFAR-10.
    accurate_skill: float = 0.5


THRESHOLDS = Thresholds()

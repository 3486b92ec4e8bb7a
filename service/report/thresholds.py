"""What the figures of the verdict were compared with."""

from typing import Annotated

from service.report.card import RULE, MetricCard
from service.report.figures import Figure, Part
from service.report.parts import Count


def _threshold(title: str, definition: str) -> Figure:
    card = MetricCard(
        title=f"Threshold: {title}",
        definition=definition,
        formula="constant of the rule named by verdict.rule",
        range="fixed for a version of the rule",
        reading=(
            "Compare it with the bounds in `verdict.confidence_interval`; `reasons` does so in "
            "words."
        ),
        failure_modes="Set by evidence on image classifiers; other domains may need other values.",
        reference=RULE,
    )
    return Figure(card)


class Thresholds(Part):
    """What the figures were compared with."""

    mf_utilization: Annotated[
        float, _threshold("MF: Ũ' at least", "Lower bound of Ũ' from which MF is possible.")
    ]
    mf_energy: Annotated[float, _threshold("MF: E at least", "Lower bound of E that confirms MF.")]
    mf_distance: Annotated[
        float, _threshold("MF: D at most", "Upper bound of D that confirms MF in place of E.")
    ]
    mf_greatest_distance: Annotated[
        float | None,
        _threshold(
            "MF: D at most in any case",
            "Upper bound of D beyond which features are not called minimal whatever E says.",
        ),
    ] = None
    ef_utilization: Annotated[
        float, _threshold("EF: Ũ' at most", "Upper bound of Ũ' up to which the regime is EF.")
    ]
    ef_energy: Annotated[
        float, _threshold("EF: E at most", "Upper bound of E that, together with D, shows EF.")
    ]
    ef_distance: Annotated[
        float, _threshold("EF: D at least", "Lower bound of D that, together with E, shows EF.")
    ]
    ef_certain_distance: Annotated[
        float | None,
        _threshold("EF: D at least, alone", "Lower bound of D that shows EF by itself."),
    ] = None
    min_samples: Annotated[
        Count, _threshold("Samples at least", "Below this many samples nothing is decided.")
    ]
    min_samples_per_dimension: Annotated[
        Count,
        _threshold(
            "Samples per dimension at least",
            "Samples needed for each of the r dimensions of the learned space.",
        ),
    ]
    min_rank_share: Annotated[
        float,
        _threshold(
            "r at least, as a share",
            "Below this share of the outputs less one, r is too small to decide anything.",
        ),
    ]
    min_rank_ratio: Annotated[
        float,
        _threshold(
            "Directions at least, in multiples of r",
            "With fewer directions to use the width alone forces minimality.",
        ),
    ]
    warn_samples: Annotated[
        Count, _threshold("Warn of few samples below", "Fewer samples than this are warned of.")
    ]
    warn_imbalance: Annotated[
        float,
        _threshold(
            "Warn of imbalance above",
            "Ratio of the largest class to the smallest above which imbalance is warned of.",
        ),
    ]
    warn_saturation: Annotated[
        float,
        _threshold(
            "Warn of saturation from",
            "Rank as a share of n − 1 from which the features are said to be saturated.",
        ),
    ]
    poor_quality: Annotated[
        float,
        _threshold(
            "Poor quality below",
            "Π*(C) corrected for chance below which a minimal network is called poor.",
        ),
    ]
    # Reports written before the second axis had a place of its own lack these two.
    good_quality: Annotated[
        float | None,
        _threshold(
            "Good quality from",
            "Π*(C) corrected for chance from which answers no better than guessing are warned of.",
        ),
    ] = None
    accurate_skill: Annotated[
        float | None,
        _threshold("Accurate from", "Skill from which an extended network is called accurate."),
    ] = None

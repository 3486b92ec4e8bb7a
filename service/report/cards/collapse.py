"""Cards of `neural_collapse` and `compression`."""

from service.report.cards.card import MetricCard

_PAPYAN = "Papyan, Han, Donoho: PNAS 117 (2020)"
_WHERE = "null with fewer than two classes, or where all class means coincide"

_NEURAL_COLLAPSE = (
    MetricCard(
        key="neural_collapse.nc1",
        title="NC1: variability within classes",
        definition="Covariance within classes, measured by the covariance between them.",
        formula="tr(Σ_W Σ_B⁺)/C, pseudo-inverse of rank C − 1 at most",
        range=f"≥ 0; {_WHERE}",
        reading="0: every class is a single point. Falls by orders of magnitude along training.",
        failure_modes=(
            "One pair of classes with nearly equal means makes it huge. It does not order MF and "
            "EF networks."
        ),
        reference=_PAPYAN,
    ),
    MetricCard(
        key="neural_collapse.nc1_quotient",
        title="NC1 as a quotient",
        definition="Variance within classes over variance between them.",
        formula="tr Σ_W / tr Σ_B",
        range=f"≥ 0; {_WHERE}",
        reading="As NC1, and sturdier: no direction counts for more than its variance.",
        failure_modes="Ruled by the strongest directions of either side.",
        reference=_PAPYAN,
    ),
    MetricCard(
        key="neural_collapse.nc2_equinorm_means",
        title="NC2: equal norms",
        definition="How much the centred class means differ in length.",
        formula="std ‖μ_c − μ_G‖ / mean ‖μ_c − μ_G‖",
        range=f"≥ 0; {_WHERE}",
        reading="0: all classes stand out equally.",
        failure_modes="Always 0 with two classes. p features have room for p + 1 means at equal "
        "angles: with more classes it cannot be 0.",
        reference=_PAPYAN,
    ),
    MetricCard(
        key="neural_collapse.nc2_equiangle_means",
        title="NC2: equal angles",
        definition="How much the angles between centred class means differ.",
        formula="std over pairs of cos(μ_c − μ_G, μ_c' − μ_G)",
        range=f"[0, 1]; {_WHERE}",
        reading="0: all classes are as far apart as any others.",
        failure_modes="Always 0 with two classes. p features have room for p + 1 means at equal "
        "angles: with more classes it cannot be 0.",
        reference=_PAPYAN,
    ),
    MetricCard(
        key="neural_collapse.nc2_etf_means",
        title="NC2: distance to the simplex",
        definition="Distance of the centred class means from a simplex equiangular tight frame.",
        formula="‖MᵀM/‖MᵀM‖_F − (I − 11ᵀ/C)/√(C−1)‖_F, M = [μ_c − μ_G]",
        range=f"[0, 2]; {_WHERE}",
        reading="0: equal norms and equal, largest possible angles at once.",
        failure_modes="Of two equally bent frames the one of more classes looks closer. With more "
        "than p + 1 classes it is at least √(2 − 2√(p/(C−1))), since p features have no room for "
        "their simplex.",
        reference=_PAPYAN,
    ),
    MetricCard(
        key="neural_collapse.nc3",
        title="NC3: head against means",
        definition="Distance between the head's weights and the centred class means.",
        formula="‖W/‖W‖_F − Mᵀ/‖M‖_F‖²_F, for the classes present",
        range="[0, 4]; null also if the head is not known or zero",
        reading="0: the last layer measures distances to class means. 2: they are unrelated.",
        failure_modes=(
            "Without weight decay the head keeps directions that the loss does not see, and stays "
            "away from 0. A single logit u is taken as (−u/2, u/2)."
        ),
        reference=_PAPYAN,
    ),
    MetricCard(
        key="neural_collapse.nc4_mismatch",
        title="NC4: answers against the nearest mean",
        definition="Share of rows whose answer is not the class with the nearest mean.",
        formula="(1/m) #{i : argmax f(x_i) ≠ argmin_c ‖Φ(x_i) − μ_c‖}",
        range="[0, 1]; null with fewer than two classes",
        reading="0: the network is a nearest-mean classifier on its features.",
        failure_modes=(
            "Counted on all rows or the same random 10,000 for every model, not weighted. An "
            "answer that names a class without samples is always a mismatch."
        ),
        reference=_PAPYAN,
    ),
)

_COMPRESSION = (
    MetricCard(
        key="compression.*.k",
        title="Features kept",
        definition="Number of centred eigenfunctions that the outputs are projected on.",
        formula="f_k(x) = F̄ + Σ_{j≤k} ⟨F|e_j⟩ e_j(x)",
        range="0 … centred rank",
        reading="0 always gives the mean output.",
        failure_modes="All k up to 32, then in steps of 15 %, and r, 2r and the rank.",
        reference="Phiscope",
    ),
    MetricCard(
        key="compression.*.accuracy",
        title="Accuracy with k features",
        definition=(
            "Share of rows whose label is told from the first k eigenfunctions; of several labels, "
            "share of the decisions."
        ),
        formula=(
            "(1/m) #{i : argmax f_k(x_i) = y_i}, f_k what the model's link makes of the projected "
            "outputs"
        ),
        range="[0, 1]; null for regression or without targets",
        reading="Where it levels off, further features add nothing to the answers.",
        failure_modes=(
            "Counted on all rows or the same random 10,000 for every model, not weighted."
        ),
        reference="Phiscope",
    ),
    MetricCard(
        key="compression.*.agreement",
        title="Answers kept with k features",
        definition=(
            "Share of rows for which the first k eigenfunctions give the model's answer; of "
            "several labels, share of the decisions."
        ),
        formula=(
            "(1/m) #{i : argmax f_k(x_i) = argmax f(x_i)}, f_k what the model's link makes of the "
            "projected outputs"
        ),
        range="[0, 1]; null for regression, and where the answers decide nothing",
        reading="The smallest k near 1 is the width that the model really needs. No labels needed.",
        failure_modes=(
            "Counted on all rows or the same random 10,000 for every model, not weighted."
        ),
        reference="Phiscope",
    ),
    MetricCard(
        key="compression.*.output_error",
        title="Error of the outputs with k features",
        definition="How far the outputs are from their projection, as a share of their variation.",
        formula="‖F − P_k F‖ / ‖F − F̄‖, for a classifier without each sample's mean logit",
        range="[0, 1]",
        reading="0: nothing is lost. 1: as good as the mean output.",
        failure_modes="Weighs outputs by their size: large logits count most.",
        reference="Phiscope",
    ),
)

CARDS = (*_NEURAL_COLLAPSE, *_COMPRESSION)

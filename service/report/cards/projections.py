"""Cards of `projections` and `alignment`."""

from service.report.cards.card import PAPER, MetricCard, centered, interval

_PROJECTIONS = (
    MetricCard(
        key="projections.quality",
        title="Quality of each feature",
        definition="Share of an eigenfunction that lies in the space of the target functions.",
        formula="Q*_k = ‖P_{H*} e_k‖²",
        range="[0, 1]; null without targets",
        reading=(
            "1: the feature is made of the target. 0: it has nothing to do with it. Good networks "
            "have high quality in their strongest features."
        ),
        failure_modes=(
            "On training data it is high for memorised labels too; use a probe the model has not "
            "seen. Where eigenvalues nearly coincide only the sum over the group means something."
        ),
        reference=f"{PAPER}, §2",
    ),
    MetricCard(
        key="projections.utilization",
        title="Utilization of each feature",
        definition="Share of an eigenfunction that lies in the space of the model's outputs.",
        formula="Q̂_k = ‖P_Ĥ e_k‖²",
        range="[0, 1]",
        reading=(
            "1: the last layer uses the feature fully. 0: the feature exists and is ignored. In a "
            "minimal network the first few are near 1 and the rest near 0. Null without outputs."
        ),
        failure_modes=(
            "The space counts directions, not their size, so a faint left-over direction of the "
            "logits weighs as much as a class; the verdict cleans it first."
        ),
        reference=f"{PAPER}, §2",
    ),
    MetricCard(
        key="projections.cumulative_quality",
        title="Cumulative quality",
        definition="Share of the target space that the first k eigenfunctions hold together.",
        formula="Π*(k) = (1/dim H*) Σ_{j≤k} Q*_j",
        range="[0, 1], never decreasing; null without targets",
        reading=(
            "Good if it is near 1 at k = dim H*, and well above `quality_chance_level`. The value "
            "at the last k is what any linear readout of these features could reach."
        ),
        failure_modes="Rises to 1 for any target at all once k nears the number of samples.",
        reference=f"{PAPER}, §2",
    ),
    MetricCard(
        key="projections.cumulative_utilization",
        title="Cumulative utilization",
        definition="Share of the learned space that the first k eigenfunctions hold together.",
        formula="Π̂(k) = (1/dim Ĥ) Σ_{j≤k} Q̂_j",
        range="[0, 1], never decreasing",
        reading="The earlier it reaches 1, the fewer features the model really uses.",
        failure_modes=(
            "Uncentred it may stay below 1, because a bias can add a constant that the features "
            "lack."
        ),
        reference=f"{PAPER}, §2",
    ),
    MetricCard(
        key="projections.quality_chance_level",
        title="Chance level of the cumulative quality",
        definition="What Π*(k) would be on average if the targets were shuffled among the samples.",
        formula=(
            "Σ_{j≤k} [t·a_j + (1 − a_j)(dim H* − t)/(n − 1)] / dim H*, a_j = ⟨e_j|1⟩², t = "
            "‖P_{H*}1‖²"
        ),
        range="[0, 1], never decreasing; null without targets",
        reading="Quality at this level is no quality. Judge Π*(k) by how far it stands above.",
        failure_modes=(
            "An average over shuffles: single shuffles scatter around it on small probes. Labels "
            "per position are shuffled singly, so smooth label maps reach more by chance alone. "
            "Of several labels a sample, weighted, it is about a fifth too low."
        ),
        reference="Exact average over all permutations; for k = rank about [1 + (C − 1)·rank/n]/C",
    ),
    MetricCard(
        key="projections.dim_target",
        title="Dimension of the target space",
        definition="Number of independent target functions on the probe.",
        formula="dim H* = dim span{y_1 … y_d}",
        range="≥ 0; the number of classes present, for classification; null without targets",
        reading="How many features the task needs at least. One less once the constant is removed.",
        failure_modes="Classes without a sample in the probe are not counted.",
        reference=f"{PAPER}, §2",
    ),
    MetricCard(
        key="projections.dim_learned",
        title="Dimension of the learned space",
        definition="Number of independent outputs on the probe.",
        formula="dim Ĥ = #{i : s_i(F) > 1e-6 · s_1(F)}",
        range="0 … number of outputs",
        reading=(
            "How many functions the model computes. Fewer than outputs: some outputs are copies."
        ),
        failure_modes=(
            "With nearly dependent logits it depends on the tolerance, which is an option."
        ),
        reference=f"{PAPER}, §2",
    ),
    MetricCard(
        key="projections.quality_at_dim_target",
        title="Quality of the leading features, Π*(C)",
        definition=(
            "Share of the target in as many leading eigenfunctions as the task needs at least."
        ),
        formula="Π*(dim H*)",
        range="[0, 1]; null without targets",
        reading=(
            "The second axis beside the regime: are the strongest features the right ones? 0.7 and "
            "more is good on unseen MNIST images, 0.35 is what random features give there."
        ),
        failure_modes=(
            "Includes the constant, which is worth 1/C to everyone: read it against its chance "
            "level. Depends on how hard the task is, so compare models on one probe only."
        ),
        reference=f"{PAPER}, §2",
    ),
    MetricCard(
        key="projections.quality_at_dim_target_chance",
        title="Chance level of Π*(C)",
        definition="What Π*(C) would be on average if the targets were shuffled among the samples.",
        formula="quality_chance_level at k = dim H*",
        range="[0, 1]; null without targets",
        reading=(
            "“Minimal but poor” is said where Π*(C) stands less than a quarter of the way above it."
        ),
        failure_modes="An average over shuffles, as `quality_chance_level`.",
        reference="Exact average over all permutations of the targets",
    ),
)

_ALIGNMENT = (
    MetricCard(
        key="alignment.d_lr",
        title="Low-rank measure D_LR",
        definition=(
            "Distance of the feature operator from the minimal one, which holds the constant and "
            "the learned functions and nothing else."
        ),
        formula="D_LR = 1 − CKA(T, a_1|1⟩⟨1| + a_2 P_Ĥ)",
        range="[0, 1]; null if features or outputs do not vary",
        reading=(
            "0: minimal, rich learning. Towards 1: lazy. Trained image classifiers mostly "
            "reach 0.03 to 0.2, features as initialised 0.2 to 0.7."
        ),
        failure_modes=(
            "Between 0.15 and 0.40 it mixes both regimes: it also punishes learned features of "
            "unequal strength. It separates only the extremes, so the verdict does not rest on it."
        ),
        reference=f"{PAPER}, and its later version (ICLR 2026)",
    ),
    MetricCard(
        key="alignment.cka_target",
        title="Alignment of features and targets",
        definition="Linear centred kernel alignment of features and targets.",
        formula="‖Φ_cᵀY_c‖²_F / (‖Φ_cᵀΦ_c‖_F ‖Y_cᵀY_c‖_F)",
        range="[0, 1]; null without targets, or if one side does not vary",
        reading=(
            "1: features are the targets up to rotation and scale. Higher is better on unseen data."
        ),
        failure_modes=(
            "Ruled by the strongest directions; biased upwards when n is not much above p."
        ),
        reference="Kornblith, Norouzi, Lee, Hinton: ICML (2019)",
    ),
    MetricCard(
        key="alignment.cka_outputs",
        title="Alignment of features and outputs",
        definition="Linear centred kernel alignment of features and outputs.",
        formula="‖Φ_cᵀF_c‖²_F / (‖Φ_cᵀΦ_c‖_F ‖F_cᵀF_c‖_F)",
        range="[0, 1]; null if one side does not vary",
        reading="Near 1: the features vary as the outputs do, and hold little that is not used.",
        failure_modes="Ruled by the strongest directions, weak ones hardly count.",
        reference="Kornblith, Norouzi, Lee, Hinton: ICML (2019)",
    ),
)

CARDS = (
    *_PROJECTIONS,
    *(centered(c, c.key.replace("projections.", "projections.centered.")) for c in _PROJECTIONS),
    *_ALIGNMENT,
    *(
        interval(c, c.key.replace("alignment.", "alignment.confidence_interval."))
        for c in _ALIGNMENT
    ),
)

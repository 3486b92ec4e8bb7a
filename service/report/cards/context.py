"""Cards of what describes the job: model, probe, feature map, performance, provenance."""

from service.report.cards.card import PAPER, MetricCard

CARDS = (
    MetricCard(
        key="model.step",
        title="Training step",
        definition="Step of the run at which this checkpoint was taken, as given at upload.",
        formula="as uploaded",
        range="≥ 0; null if none was given",
        reading="Orders the checkpoints of a run.",
        failure_modes="Not checked: it is what the uploader said.",
        reference="Phiscope",
    ),
    MetricCard(
        key="model.parameters",
        title="Parameters",
        definition="Number of parameters in the model file.",
        formula="Σ numel over parameters",
        range="≥ 0; null if unknown",
        reading="The size of the model. It says nothing about the features.",
        failure_modes=(
            "Frozen archives keep weights as constants, which are counted where they show."
        ),
        reference="Phiscope",
    ),
    MetricCard(
        key="probe.version",
        title="Version of the probe",
        definition="Which registration under the probe's name this was.",
        formula="1, 2, 3 …",
        range="≥ 1",
        reading="Compare reports on one version only: another version is other data.",
        failure_modes="None: a probe is immutable.",
        reference="Phiscope",
    ),
    MetricCard(
        key="probe.n",
        title="Samples",
        definition="Number of samples of the probe that were analysed; positions do not count.",
        formula="n",
        range="≥ 10",
        reading="500 and more make the figures steady; 5000 make them sharp.",
        failure_modes=(
            "Below the number of features, energy is biased and trailing features are noise."
        ),
        reference="Phiscope",
    ),
    MetricCard(
        key="probe.classes",
        title="Classes",
        definition=(
            "Number of classes the probe's labels name; of several labels a sample, how many "
            "there are."
        ),
        formula="C",
        range="≥ 1; null for regression or without targets",
        reading="Should be the number of the model's outputs.",
        failure_modes="A class may have no sample: see the counts.",
        reference="Phiscope",
    ),
    MetricCard(
        key="probe.class_counts",
        title="Labels per class",
        definition="How many labels each class has among the analysed samples.",
        formula=(
            "n_c, with Σ n_c = n · positions; of several labels a sample, those that carry label c"
        ),
        range="≥ 0; null for regression or without targets",
        reading=(
            "Best equal: every figure weighs labels alike, so large classes weigh more, unless "
            "the option class_weighting is balanced."
        ),
        failure_modes="An imbalance of 100 moved D from 0.06 to 0.34 and U from 0.97 to 0.84.",
        reference=PAPER,
    ),
    MetricCard(
        key="probe.ignored",
        title="Labels left out",
        definition="How many labels are the spec's `ignore_label`, and count in no figure.",
        formula="as counted",
        range="≥ 0; null if no label is to be left out",
        reading="The model still runs on these positions; only their rows are left out.",
        failure_modes=(
            "A sample whose every label is left out does not count as a sample; it is counted here."
        ),
        reference="Phiscope",
    ),
    MetricCard(
        key="feature_map.p",
        title="Width of the feature map",
        definition="Number of features: inputs of the final linear layer.",
        formula="p, with f(x) = W Φ(x) + b and Φ: X → R^p",
        range="≥ 1",
        reading="Room for features. Below 2r the verdict does not apply.",
        failure_modes=(
            "Dead and duplicated units count; the rank of the spectrum does not count them."
        ),
        reference=f"{PAPER}, §2",
    ),
    MetricCard(
        key="feature_map.positions",
        title="Positions",
        definition="Answers that the model gives for each sample, such as one per pixel or token.",
        formula="rows of Φ / n",
        range="≥ 1; 1 for a model with one answer a sample",
        reading=(
            "Above 1 every figure averages over all positions of all samples; whether there are "
            "enough samples for a verdict is judged by samples, and folds hold whole samples."
        ),
        failure_modes=(
            "Positions of one sample are alike, so they add weight and hardly any evidence."
        ),
        reference="Phiscope",
    ),
    MetricCard(
        key="feature_map.outputs",
        title="Outputs",
        definition="Number of outputs of the final linear layer.",
        formula="C, the rows of W",
        range="≥ 0",
        reading=(
            "Classes, for a classifier with one logit each. 0: the model returns features alone, "
            "and all that outputs would show is null."
        ),
        failure_modes="A binary classifier may have one output or two.",
        reference=f"{PAPER}, §2",
    ),
    MetricCard(
        key="feature_map.weights.shape",
        title="Shape of the head's weights",
        definition="Outputs and features of the final linear layer.",
        formula="(C, p)",
        range="two numbers ≥ 1",
        reading="Shows that the right layer was found.",
        failure_modes="None.",
        reference="Phiscope",
    ),
    MetricCard(
        key="feature_map.weights.norm",
        title="Norm of the head's weights",
        definition="Frobenius norm of the final linear layer's weights.",
        formula="‖W‖_F",
        range="≥ 0",
        reading="Zero: the outputs do not depend on the features at all.",
        failure_modes=(
            "Trades off against the scale of the features; no figure to compare models by."
        ),
        reference="Phiscope",
    ),
    MetricCard(
        key="feature_map.consistency_residual",
        title="Consistency residual",
        definition="How exactly the outputs are the linear map of the features that was found.",
        formula="max over batches of ‖ΦWᵀ + b − u‖ / ‖u − ū‖",
        range="≥ 0; null if features were declared and are not fewer than the samples",
        reading="Rounding size is good: 4e-7 in float32, 2e-4 in float16. Larger ones are refused.",
        failure_modes=(
            "Reduced precision and quantized heads raise it without anything being wrong. For "
            "features that the model's owner declared it is the residual of the best linear layer, "
            "and large where the outputs are no linear function of them."
        ),
        reference="Phiscope",
    ),
    MetricCard(
        key="performance.accuracy",
        title="Accuracy",
        definition=(
            "Share of samples, or of positions, whose class the model's answer f names; of several "
            "labels a sample, share of all decisions about labels that are right."
        ),
        formula=(
            "(1/n) #{i : argmax f(x_i) = y_i}, over all positions of all samples; a single output "
            "names class 1 above t. (1/nL) #{i, l : [f_l(x_i) ≥ t] = y_il} of L labels. t is 1/2 "
            "of probabilities, 0 of logits"
        ),
        range=(
            "[0, 1]; null for regression, without targets, and where t of a single output or of "
            "labels cannot be told"
        ),
        reading=(
            "Chance is the share of the largest class. It never enters the verdict. f is the "
            "model's answer: what `feature_map.link` makes of the last linear layer's outputs u."
        ),
        failure_modes=(
            "Hides poor classes under imbalance, and rare labels altogether; on training data it "
            "shows memory. Where `feature_map.verified` is false, u is taken for f."
        ),
        reference="Phiscope",
    ),
    MetricCard(
        key="performance.loss",
        title="Loss",
        definition=(
            "Mean loss of the model's answer f, in nats but for regression; `loss_kind` says which."
        ),
        formula=(
            "cross_entropy: −(1/n) Σ_i ln p(x_i)_{y_i}, p = softmax(u) or f. binary_cross_entropy: "
            "−(1/nL) Σ_il [y_il ln p_l(x_i) + (1 − y_il) ln(1 − p_l(x_i))], p = sigmoid(u) or f. "
            "squared_error: (1/nC) Σ ‖f(x_i) − y_i‖²"
        ),
        range="≥ 0; null without targets, and where f is fit for none of these losses",
        reading=("Lower is better. Guessing costs ln C, or ln 2 of labels and of a single output."),
        failure_modes=(
            "A few confident mistakes dominate it: a probability of 0 counts as the smallest "
            "number of full precision in f's dtype (87 nats in float32), unless f is exactly a "
            "softmax or sigmoid of u, which is followed to the end. It is not the loss used in "
            "training."
        ),
        reference="Phiscope",
    ),
    MetricCard(
        key="performance.loss_kind",
        title="Kind of loss",
        definition="Which loss the model's answer f is fit for, by what f shows itself to be.",
        formula=(
            "cross_entropy: f over classes is logits, or probabilities that sum to one, or their "
            "logarithms. binary_cross_entropy: a single f, or one for each label or class, is a "
            "logit, or a probability, or its logarithm. squared_error: regression"
        ),
        range="cross_entropy, binary_cross_entropy, squared_error; null where there is no loss",
        reading=(
            "Compare losses of one kind only. The link is tried on outputs from −1000 to 1000: f "
            "is taken for logits if it is u, or rises or falls throughout, past −10 and past 10."
        ),
        failure_modes=(
            "null for f such as tanh(u) or |u|, which is no distribution over classes, and where "
            "it is not known how f follows from u and its rows do not sum to one; "
            "`feature_map.answer` says what f is."
        ),
        reference="Phiscope",
    ),
    MetricCard(
        key="performance.subset_accuracy",
        title="Subset accuracy",
        definition="Share of samples with every label right.",
        formula="(1/n) #{i : [f_l(x_i) ≥ t] = y_il for all l}",
        range="[0, 1]; null unless samples may have several labels",
        reading="At most `accuracy`. 1: not a label is wrong or missing.",
        failure_modes="Falls with the number of labels, however good each of them is.",
        reference="Tsoumakas, Katakis: Int. J. Data Warehousing and Mining 3 (2007)",
    ),
    MetricCard(
        key="performance.average_precision",
        title="Average precision (macro)",
        definition=(
            "How well the answer f of each label ranks the samples that have it, on average over "
            "labels; labels that no sample has are left out."
        ),
        formula="mean over l of Σ_t (R_t − R_{t−1}) P_t, t the distinct values of f_l, falling",
        range="[0, 1]; null unless samples may have several labels",
        reading=(
            "Chance is the mean share of samples that have a label. It needs no decision, so it "
            "shows rare labels that accuracy hides."
        ),
        failure_modes=(
            "Computed exactly on all samples, or on the same random 10,000 for every model, since "
            "it follows from their order and not from sums. Noisy for labels of a handful of "
            "samples."
        ),
        reference="Everingham et al.: IJCV 88 (2010); as scikit-learn's average_precision_score",
    ),
    MetricCard(
        key="provenance.solver.accuracy",
        title="Accuracy of the solver",
        definition="How far rounding may put an eigenvalue off, as a share of the first one.",
        formula="4 √q · 2⁻⁵², q the smaller of rows and features",
        range="≥ 0; about 1e-14",
        reading=(
            "An eigenvalue ρ_k is known to about this, divided by ρ_k/ρ_1. All figures of the "
            "verdict rest on eigenvalues far above it."
        ),
        failure_modes=(
            "It is the solver's rounding, not that of the features: those in float32 are "
            "themselves uncertain by 6e-8 of their size."
        ),
        reference="Phiscope, measured against a singular value decomposition of the features",
    ),
    MetricCard(
        key="provenance.seed",
        title="Seed",
        definition="Seed of everything random in the analysis: sampling and folds.",
        formula="as in the options",
        range="≥ 0",
        reading="The same seed, model, probe and versions give the same report.",
        failure_modes="Another number of threads may change the last digits.",
        reference="Phiscope",
    ),
    MetricCard(
        key="provenance.timings.*",
        title="Timings",
        definition="Seconds that each stage of the analysis took.",
        formula="wall-clock time",
        range="≥ 0 seconds",
        reading="Shows where the time went.",
        failure_modes="Depends on what else the machine was doing.",
        reference="Phiscope",
    ),
)

"""Which models work: one row for each family, and the precision each dtype is held to.

The tests hold archives of every family against its row, so what is said here is what happens.
"""

from dataclasses import dataclass
from enum import StrEnum

from service.contract.failures import FailureCode


class Outcome(StrEnum):
    """What becomes of a model of the family."""

    WORKS = "works"
    CHOICE = "works with a choice"
    REFUSED = "refused"


@dataclass(frozen=True)
class Family:
    """Models that are alike in how their features are found.

    Attributes:
        key: Its name in the tests.
        title: What people call such models.
        outcome: What becomes of them.
        explanation: What Φ is; for models that are refused, what to do instead.
        codes: `code` and `detail.code` of the failure, without a choice.
    """

    key: str
    title: str
    outcome: Outcome
    explanation: str
    codes: tuple[tuple[FailureCode, str], ...] = ()


PRECISIONS = {
    "float64": 1e-10,
    "float32": 1e-4,
    "float16": 1e-2,
    "bfloat16": 3e-2,
    "int8": 6e-2,
}
"""The largest consistency residual that is accepted, by the precision the model works in."""

_UNSUPPORTED = FailureCode.UNSUPPORTED_MODEL
_HEADLESS = (FailureCode.HEAD_NOT_FOUND, "no_linear_head")
_SUM = (_UNSUPPORTED, "multiple_heads")
_AMBIGUOUS = (_UNSUPPORTED, "ambiguous_output")
_BAD_OUTPUT = (_UNSUPPORTED, "bad_output")


def _works(key: str, title: str, phi: str) -> Family:
    return Family(key, title, Outcome.WORKS, phi)


def _choice(key: str, title: str, advice: str, *codes: tuple[FailureCode, str]) -> Family:
    return Family(key, title, Outcome.CHOICE, advice, codes)


def _refused(key: str, title: str, advice: str, *codes: tuple[FailureCode, str]) -> Family:
    return Family(key, title, Outcome.REFUSED, advice, codes)


_ROWS = (
    _works(
        "mlp",
        "Multilayer perceptrons",
        "The input of the last linear layer, with or without a bias, however wide.",
    ),
    _works(
        "convolutional",
        "Convolutional classifiers: VGG, ResNet, DenseNet, GoogLeNet, MobileNet, ConvNeXt, "
        "networks over time",
        "The pooled map, or the last hidden layer, that the classifier's last layer sees. "
        "Auxiliary heads that run in training only do no harm.",
    ),
    _works(
        "vision_transformer",
        "Vision transformers and mixers",
        "The class token, or the mean token, after the last normalisation.",
    ),
    _works(
        "text",
        "Text classifiers on token ids: transformer encoders, convolutions, bags of words",
        "What the head sees: the mean token without padding, the first token, or the one where "
        "the text ends, even if it is picked after the head.",
    ),
    _works(
        "recurrent",
        "LSTM, GRU and written-out recurrences",
        "The state that the head sees: the last step, or both directions' last states.",
    ),
    _works(
        "products",
        "Last layers written as a product: `x @ W`, `addmm`, `einsum`, `inner`, `tensordot`, "
        "`bmm`, tied embeddings",
        "The factor that depends on the input. Transposed weights, parts of a weight and scale "
        "factors are followed.",
    ),
    _works(
        "normalised",
        "Weight norm and cosine classifiers",
        "What is multiplied by the weight, so of a cosine classifier the *normalised* features. "
        "W is the weight as it is used, scale included.",
    ),
    _works(
        "convolution_heads",
        "Convolutions as last layer, with or without a global mean after them",
        "1×1: the mean of the map. Larger kernels: the patch the kernel sees, unfolded, and the "
        "mean of the patches where outputs are averaged.",
    ),
    _works(
        "dense",
        "Outputs at every position: segmentation, tagging",
        "The features at each position, each counted as a sample of its own. Where the model "
        "picks or averages positions, so is Φ.",
    ),
    _works(
        "links",
        "An elementwise function or a softmax after the last layer",
        "Nothing changes: the outputs are taken before it, and `link` names it. After a ReLU and "
        "its like, `ends_in_activation` warns that this may be a hidden layer.",
    ),
    _works(
        "affine",
        "Temperature, logit adjustment, batch norm after the head, a choice of classes",
        "Nothing changes: what is affine per class becomes part of W and b.",
    ),
    _works(
        "regression",
        "Regression with one or several outputs, squeezed or not, targets denormalised",
        "The input of the last layer.",
    ),
    _works(
        "precisions",
        "float64, float16 and bfloat16, and casts on the way",
        "In the precision in which the head works.",
    ),
    _works(
        "pixels",
        "Normalisation inside the model, for images of bytes",
        "As ever. That the model scales bytes itself is seen, and they are left as they are; "
        'where it cannot be you are asked: `"transform": {}` in the probe\'s spec leaves them.',
    ),
    _works(
        "quantized",
        "Dynamic and static int8, dynamic float16",
        "What the quantized layer is given; W is the weight it has kept. `quantized` warns of the "
        "rounding, and dynamic int8, whose scale comes from the whole batch, is "
        "`batch_dependent`.",
    ),
    _works(
        "results",
        "Dicts, lists, tuples and named tuples of which one tensor ends in a linear layer",
        "That of the one. Of logits and their probabilities, the logits are taken.",
    ),
    _works(
        "several_inputs",
        "Several inputs, such as ids and a mask; optional arguments",
        "As ever; what has a default may be left out. A list, tuple or dict of tensors as an input "
        "is taken of exported models only, each tensor as an input of its own, `xs.0`, `xs.1`; in "
        "TorchScript every input that must be given is a tensor.",
    ),
    _works(
        "made_on_gpu",
        "Made on a GPU, with the device written into the program",
        "As ever: the program runs where the worker is, and `device_remapped` says so. Weights "
        "may have been anywhere.",
    ),
    _works(
        "autocast",
        "Regions of `torch.autocast`",
        "In the precision that autocast gives it. A region for a device that the worker has not "
        "casts nothing, as in PyTorch; `autocast_idle` says so.",
    ),
    _works(
        "programs",
        "Loops and branches that depend on the input, tasks of `torch.jit.fork`, extra methods",
        "As ever: what runs is watched, not what is written. Every batch must end in the same "
        "head. Buffers that a run changes are put back before the analysis, and `stateful` warns "
        "of whatever it writes to the model. Where the whole batch decides for each of its "
        "samples, `batch_dependent` warns of it as soon as a batch shows it.",
    ),
    _works(
        "views",
        "Several views of each sample that go through the head as one batch: crops, mirror images",
        "The mean of the views' features, as the model averages their outputs: with `mean` or "
        "`sum` along an axis. Cut apart and added, `(a + b) / 2`, they are a sum of heads, and "
        "refused.",
    ),
    _works(
        "training_mode",
        "Scripted in training mode",
        "As ever: a scripted archive is put into evaluation mode when it is loaded.",
    ),
    _works(
        "fixed_batch",
        "Traced or exported for one batch size",
        "As ever. The size is found, batches are cut to it, and `fixed_batch` warns of it.",
    ),
    _works(
        "batch_dependent",
        "Samples that influence each other",
        "As the model computes it for the batches it was given; `batch_dependent` warns of it, "
        "whichever batch shows it, and `stateful` of a model that writes to its own buffers or "
        "attributes while it runs.",
    ),
    _works(
        "ones",
        "Sums, means and maxima over a single entry: one step in time, one place, one output",
        "Nothing changes, wherever they stand.",
    ),
    _works(
        "features_beside",
        "Features, hidden states, gates or a pooled output returned beside the logits",
        "That of the last result: the run shows that the others lie on the way to it. "
        "`earlier_outputs` names them.",
    ),
    _works(
        "parts",
        "The last layer applied to parts of a batch, to steps in time, to views or dropouts of a "
        "sample, and its results joined or averaged",
        "That of each part, joined or averaged as the results are: `torch.cat(results)`, or "
        "`torch.stack(results).mean(0)`. Of results that are added one to another, "
        "`(a + b) / 2`, only those of the same features are followed, as dropouts are in "
        "evaluation mode; not if they are added to `torch.zeros` first.",
    ),
    _works(
        "several_layers",
        "Several linear layers on the same features, side by side or added",
        "What all of them see; W is made of all of theirs, and `several_layers` names them. That "
        "they see the same features is proved on every batch.",
    ),
    _works(
        "adapters",
        "A last layer with low-rank updates (LoRA)",
        "What the layer sees. W is its weight with the updates added; `layers_in_series` says so.",
    ),
    _choice(
        "several_heads",
        "Several results, each of a head of its own",
        'Say which: `{"output": "logits"}`, or its place, `{"output": 0}`. Φ is what that '
        "head sees.",
        _AMBIGUOUS,
    ),
    _choice(
        "features_returned",
        "Features returned beside an answer that cannot be followed to them",
        'Say which result is the features: `{"features_output": "embedding"}`; beside logits that '
        "can be followed there is no need to.",
        _AMBIGUOUS,
    ),
    _choice(
        "features_alone",
        "Embeddings and backbones that return features and no outputs",
        'Say that the result is the features: `{"features_output": 0}`. There is no verdict then; '
        "spectrum, quality and what else needs no outputs is reported.",
        _HEADLESS,
        _SUM,
        (_UNSUPPORTED, "nonlinear_pool"),
    ),
    _choice(
        "hidden_link",
        "A function of the outputs written by hand: softmax, centred logits, `[1 − p, p]`",
        'Name the last linear layer: `{"module": "head"}`, or in a frozen archive its operation, '
        '`{"operation": 12}`. What follows it is not verified.',
        _HEADLESS,
        _SUM,
    ),
    _choice(
        "upsampled",
        "Segmentation whose outputs are enlarged after the last layer",
        'Name that layer: `{"module": "head"}`. Φ is at the positions before they are enlarged. '
        "A model that enlarges its features instead works as it is.",
        _HEADLESS,
    ),
    _refused(
        "sums_of_heads",
        "Sums and joins of heads on different features: ensembles, wide and deep, test-time "
        "augmentation, distilled tokens, a residual around the last layer",
        "Analyse the members one by one: save each so that it returns the outputs of one layer. "
        "Views of a sample that one layer sees work if their results are stacked, "
        "`torch.stack([a, b]).mean(0)`.",
        _SUM,
    ),
    _refused(
        "products_of_functions",
        "Products of two functions of the input: gates, mixtures of experts, bilinear layers, "
        "similarities, masks made from the input",
        "No fixed W exists. Save the part before the product, if that is of interest.",
        _HEADLESS,
    ),
    _refused(
        "nonlinear_pooling",
        "A nonlinearity between the last layer and a pooling: SqueezeNet, max pooling of outputs, "
        "averaged probabilities",
        "Pool before the last layer, or leave the nonlinearity out.",
        (_UNSUPPORTED, "nonlinear_pool"),
    ),
    _refused(
        "no_last_layer",
        "No linear layer last: distances from centres, grouped convolutions, sorted, largest or "
        "normalised scores, a constant",
        "Save the model so that it returns the outputs of a linear layer.",
        _HEADLESS,
    ),
    _refused(
        "train_mode_saved",
        "Dropout or batch statistics that are switched on in the archive",
        "Call `model.eval()` before you trace or export, and switch nothing on by hand.",
        (_UNSUPPORTED, "train_mode_baked"),
    ),
    _refused(
        "random",
        "Answers that differ from run to run",
        "Save a version without noise, sampling or a count of its calls.",
        (_UNSUPPORTED, "stochastic"),
    ),
    _refused(
        "non_finite",
        "NaN or infinity in weights, features or outputs",
        "Look for a diverged training run, or for inputs of the wrong scale.",
        (FailureCode.NON_FINITE, "non_finite"),
    ),
    _refused(
        "no_float_rows",
        "Class numbers, one number for the whole batch, samples left out or not on the first axis",
        "Return the scores: a float tensor with one row for each sample.",
        _BAD_OUTPUT,
    ),
    _refused(
        "unknown_choice",
        "A choice of a result or a layer that is not there, or of several",
        "The message lists what there is, as the inspection does.",
        _BAD_OUTPUT,
        _HEADLESS,
    ),
    _refused(
        "not_a_model",
        "A `state_dict`, a pickled module, a damaged file; convolutional networks saved by "
        "`torch.jit.optimize_for_inference`",
        "Save the program with its weights, as shown above.",
        (FailureCode.NOT_A_MODEL, "load_failed"),
    ),
)

FAMILIES: dict[str, Family] = {family.key: family for family in _ROWS}

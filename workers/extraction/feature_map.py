"""What was found in a model, u = Φ Wᵀ + b and f = link(u), and the warnings about it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from workers.extraction.head.advising import earlier_outputs
from workers.extraction.head.choosing import DeclaredFeatures
from workers.extraction.head.structure import NO_LINK, UNVERIFIED, Structure
from workers.extraction.observation import Observation
from workers.extraction.trace.consistency import tolerance
from workers.extraction.trace.execution import dtype_name

# Links that usually end the hidden layers of a network, not the network itself.
_ACTIVATIONS = {"relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish"}
_ACTIVATIONS |= {"hardswish", "hardtanh", "softplus", "abs", "square", "pow", "prelu"}
_ACTIVATIONS |= {"hardshrink", "softshrink", "threshold", "sin", "cos"}


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """What was found: u = Φ Wᵀ + b and the model's answer f = link(u).

    Attributes:
        W: `(C, p)` float64, with affine operations after the head folded in; `None` if the owner
            declared a result to be Φ and no linear layer is known to take it as input.
        b: `(C,)` float64, or `None` if nothing is added.
        link: `identity`, `softmax`, `log_softmax`, `sigmoid`, …; several are joined by ` then `;
            `unverified` if the owner chose the head or Φ and no link was observed; `none` without
            outputs.
        kind: `linear`, `conv1x1`, …, or `declared` for a result declared to be Φ.
        location: The head's parameter, such as `fc.weight`, or its operation.
        output: Which of the model's results was taken as its answer; empty if it is the only one,
            or if none is known to follow from the chosen head.
        passed_over: Results on the way to `output`, any of which may be meant instead.
        verified: Whether every batch is checked to satisfy answer = link(Φ Wᵀ + b).
        positions: Rows of Φ per sample: 1, unless the model answers for each position.
        position_shape: The axes of the answer that positions run along, in the order of the rows;
            those of length 1 are left out.
        p: Number of features.
        outputs: Number of outputs C.
        columns: Number of outputs that the answer has: fewer where operations after u pick some.
        dtype: The dtype of Φ.
        parameters: Number of the model's parameters.
        warnings: What a reader of the figures must know, each as `code: sentence`.
    """

    W: Tensor | None
    b: Tensor | None
    link: str
    kind: str
    location: str
    output: str
    passed_over: tuple[str, ...]
    verified: bool
    positions: int
    position_shape: tuple[int, ...]
    p: int
    outputs: int
    columns: int
    dtype: str
    parameters: int
    warnings: tuple[str, ...]


def describe(
    found: Structure | DeclaredFeatures,
    first: Observation,
    parameters: int,
    warnings: Sequence[str],
) -> FeatureMap:
    """Describe what was found.

    Args:
        found: Where Φ and the outputs are.
        first: Observation of the first batch.
        parameters: Number of the model's parameters.
        warnings: Warnings about the model found so far, to which those about Φ are added.
    """
    structure = found.structure if isinstance(found, DeclaredFeatures) else found
    declared = ""
    if isinstance(found, DeclaredFeatures):
        declared = f"result {found.features}" if found.features else "the only result"
    return FeatureMap(
        W=None if structure is None else structure.weight.cpu(),
        b=None if structure is None or structure.bias is None else structure.bias.cpu(),
        link=_link(found, structure),
        kind="declared" if structure is None else structure.kind,
        location=declared or (structure.location if structure else ""),
        output=found.output or "",
        passed_over=() if structure is None else structure.passed_over,
        verified=structure is not None and structure.output is not None,
        positions=first.positions,
        position_shape=first.position_shape,
        p=first.features.shape[1],
        outputs=first.logits.shape[1],
        columns=first.logits.shape[1] if first.link is None else first.link.columns,
        dtype=dtype_name(first.features),
        parameters=parameters,
        warnings=(*warnings, *_cautions(structure, first)),
    )


def _link(found: Structure | DeclaredFeatures, structure: Structure | None) -> str:
    if structure is None:
        return NO_LINK if found.output is None else UNVERIFIED
    return structure.link


def _cautions(structure: Structure | None, first: Observation) -> Iterator[str]:
    """Yield what a reader must know about how Φ was found, each as `code: sentence`."""
    if not first.logits.shape[1]:
        yield (
            "no_outputs: the model returns features and nothing else, as its owner says, so there "
            "are no outputs: what they would show (utilization, regime, compression, accuracy and "
            "loss, NC3, NC4) is left out."
        )
    elif structure is None:
        yield (
            "declared_features: Φ is the result that the model's owner named. No linear layer was "
            "seen to turn it into the outputs; consistency_residual is the part of the outputs' "
            "spread that no linear layer on Φ explains."
        )
    elif structure.output is None:
        yield (
            "declared_head: the model's owner chose this layer, and its own results are taken for "
            "the outputs. How the model's answer follows from them was not verified."
            f"{_other_width(first)}"
        )
    elif structure.link.partition(" then ")[0] in _ACTIVATIONS:
        yield (
            f"ends_in_activation: the model's answer is {structure.link} of its last linear layer, "
            "as in a backbone that was saved without its classifier. If it is one, save it with "
            "the classifier: its features are those that are taken for outputs here."
        )
    if structure is not None and structure.joined:
        yield structure.joined
    if structure is not None and structure.passed_over:
        yield earlier_outputs(structure)
    if not first.precision.is_floating_point:
        yield (
            "quantized: the last linear layer computes with 8-bit integers, so Φ Wᵀ + b gives its "
            f"outputs up to {tolerance(first.precision):.0%} of their spread only."
        )


def _other_width(first: Observation) -> str:
    """Return a sentence if a chosen head has another number of outputs than the answer, or ""."""
    outputs = first.logits.shape[1]
    columns = None if first.answers is None else first.answers.shape[1]
    if columns in {None, outputs} or (outputs, columns) == (1, 2):  # [p, 1 - p] of one output
        return ""
    return (
        f" It has {outputs:,} output{'s' * (outputs != 1)}, and the model's answer {columns:,} "
        f"column{'s' * (columns != 1)}, so it may be a hidden layer."
    )

"""Refusing models that were saved in training mode or that draw random numbers."""

from collections.abc import Iterable

from workers.extraction.refusals import Refusal, refuse
from workers.extraction.trace.operations import Step
from workers.protocol.errors import JobError

_DROPOUTS = (
    "dropout",
    "dropout_",
    "native_dropout",
    "feature_dropout",
    "feature_dropout_",
    "alpha_dropout",
    "alpha_dropout_",
    "feature_alpha_dropout",
    "feature_alpha_dropout_",
)
_RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
_ATTENTION = (
    "scaled_dot_product_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_fused_sdp_choice",
)
_BATCH_NORMS = ("batch_norm", "native_batch_norm", "_native_batch_norm_legit")

# Behaves as in training when all the named arguments are set. Instance norm is absent on purpose:
# it uses the statistics of each sample by design.
_TRAINING_WHEN: dict[str, tuple[str, ...]] = {
    **{f"aten::{name}": ("train", "p") for name in _DROPOUTS},
    **{f"aten::{name}": ("train", "dropout") for name in _RECURRENT},
    **{f"aten::{name}": ("dropout_p",) for name in _ATTENTION},
    **{f"aten::{name}": ("training",) for name in _BATCH_NORMS},
    "aten::rrelu": ("training",),
    "aten::rrelu_": ("training",),
}


def check_deterministic(steps: Iterable[Step]) -> None:
    """Refuse a model whose answer is not a fixed function of its input.

    Raises:
        JobError: `train_mode_baked` or `stochastic`.
    """
    for step in steps:
        flags = _TRAINING_WHEN.get(step.name)
        if flags is None:
            if step.operation.seeded:
                raise _stochastic(step)
        elif all(step.argument(flag) for flag in flags):
            raise _train_mode(step)


def _train_mode(step: Step) -> JobError:
    return refuse(
        Refusal.TRAIN_MODE_BAKED,
        f"The archive runs {step.name} (operation {step.index + 1}) as in training, so its answers "
        "depend on chance or on the rest of the batch. Expected a model in evaluation mode.",
        operation=step.name,
    )


def _stochastic(step: Step) -> JobError:
    return refuse(
        Refusal.STOCHASTIC,
        f"The model draws random numbers: {step.name} (operation {step.index + 1}). "
        "Expected a model that is a function of its input.",
        operation=step.name,
    )

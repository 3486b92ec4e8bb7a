"""Why Φ cannot be taken from a model: stable codes, and the advice for each."""

from enum import StrEnum

from pydantic import JsonValue

from service.contract.failures import FailureCode
from workers.protocol.errors import JobError


class Refusal(StrEnum):
    """The precise reason, in `error.detail.code`."""

    LOAD_FAILED = "load_failed"
    TRAIN_MODE_BAKED = "train_mode_baked"
    STOCHASTIC = "stochastic"
    NON_FINITE = "non_finite"
    NO_LINEAR_HEAD = "no_linear_head"
    MULTIPLE_HEADS = "multiple_heads"
    NONLINEAR_POOL = "nonlinear_pool"
    AMBIGUOUS_OUTPUT = "ambiguous_output"
    BAD_OUTPUT = "bad_output"
    RESIDUAL = "residual"
    LAYERS_DIFFER = "layers_differ"
    OTHER_DEVICE = "other_device"
    NO_SOLUTION = "no_solution"


# Every other refusal is an `unsupported_model`.
_FAILURE_CODES = {
    Refusal.LOAD_FAILED: FailureCode.NOT_A_MODEL,
    Refusal.NON_FINITE: FailureCode.NON_FINITE,
    Refusal.NO_LINEAR_HEAD: FailureCode.HEAD_NOT_FOUND,
}

_ADVICE = {
    Refusal.LOAD_FAILED: (
        "Save the model with torch.jit.script(model).save(path), torch.jit.trace(model, example)"
        ".save(path) or torch.export.save(torch.export.export(model, (example,)), path). A "
        "state_dict or a pickled module is not enough, and archives made by "
        "torch.jit.optimize_for_inference may not load."
    ),
    Refusal.TRAIN_MODE_BAKED: (
        "Call model.eval() before torch.jit.trace, torch.jit.script or torch.jit.freeze, and save "
        "the archive again. If that was done: functional.dropout drops unless it is given "
        "training=self.training, and a batch norm with track_running_stats=False always takes the "
        "statistics of the batch."
    ),
    Refusal.STOCHASTIC: "Save a version of the model that gives the same answer every time.",
    Refusal.NON_FINITE: (
        "Look for a diverged training run, or for inputs outside the range the model was made for."
    ),
    Refusal.NO_LINEAR_HEAD: (
        "Save the model so that it returns the outputs of its last linear layer (the logits), "
        "with at most a softmax, log_softmax or elementwise function after it; or name that layer "
        "in options.feature_map, by its module or its operation. GET /v1/models/{id}/inspection "
        "lists the layers."
    ),
    Refusal.MULTIPLE_HEADS: (
        "Save the model so that it returns the outputs of one linear layer, and analyse members of "
        "an ensemble one by one; or name a layer in options.feature_map, by its module or its "
        "operation. GET /v1/models/{id}/inspection lists the layers."
    ),
    Refusal.NONLINEAR_POOL: (
        "Pool before the last linear layer, or leave out the nonlinearity between the last 1×1 "
        "convolution and the pooling."
    ),
    Refusal.AMBIGUOUS_OUTPUT: (
        'Name the one that is meant, as options.feature_map = {"output": "logits"} or '
        '{"output": 1}; or save the model so that it returns one tensor, its logits.'
    ),
    Refusal.BAD_OUTPUT: (
        "Save the model so that it maps a batch of n samples to a float tensor of n rows."
    ),
    Refusal.RESIDUAL: (
        "The last layer seen is not all that happens before the output: save the model so that it "
        "returns the outputs of its last linear layer (the logits)."
    ),
    Refusal.OTHER_DEVICE: (
        "The program uses a device that is not there, in a way that cannot be redirected: move the "
        "model to the CPU, model.cpu().eval(), and save it again."
    ),
    Refusal.NO_SOLUTION: (
        "The model inverts or factorises a matrix that, for these inputs, has no inverse. Give it "
        "inputs of the range it was made for (transform.scale, mean and std), or save a model "
        "that adds a small multiple of the identity to that matrix."
    ),
    Refusal.LAYERS_DIFFER: 'Ask for the penultimate layer alone: "layers": "penultimate".',
}


def refuse(
    refusal: Refusal, message: str, *, hint: str | None = None, **detail: JsonValue
) -> JobError:
    """Build the error for a model that Φ cannot be taken from.

    Args:
        refusal: The precise reason; `detail.code` of the failure.
        message: What was seen and what was expected.
        hint: What to do; by default the advice that belongs to the reason.
        **detail: Figures and names behind the message.
    """
    code = _FAILURE_CODES.get(refusal, FailureCode.UNSUPPORTED_MODEL)
    return JobError(
        code, message, hint=hint or _ADVICE[refusal], detail={"code": str(refusal), **detail}
    )

"""What the model's answer is: found from its link, and applied to outputs that it never gave."""

from collections.abc import Callable, Iterator

from torch import Tensor

from workers.diagnostics import Answer, Performance, Task
from workers.extraction import Extractor


def read_answer(extractor: Extractor, task: Task) -> Answer:
    """Find out what the model's answer f = link(u) is.

    Where it is not known how the answer follows from the outputs, they are taken for it, as the
    report's `feature_map.verified` says.

    Args:
        extractor: What was found in the model.
        task: What the targets are.
    """
    link, outputs = extractor.link, extractor.feature_map.outputs
    if link is None or not link.hops:
        return Answer.of_logits(task, outputs)
    if not link.is_rowwise():
        return Answer.unknown(task)
    return Answer.of_link(task, link, outputs, link.outputs.dtype)


def head_by_class(extractor: Extractor) -> Tensor | None:
    """The head's weights by the answer's classes, `(classes, p)`; None where some have no row.

    Args:
        extractor: What was found in the model.
    """
    weight, link = extractor.feature_map.W, extractor.link
    if weight is None or link is None or link.chosen is None:
        return weight
    chosen = link.chosen
    if len(chosen) > 1:
        return weight[chosen]
    # One of two probabilities stands for both, as a single logit does.
    return weight[[1 - int(chosen), int(chosen)]] if len(weight) == 2 else None  # noqa: PLR2004


def deciding(extractor: Extractor, answer: Answer) -> Callable[[Tensor], Tensor | None] | None:
    """What the model would decide from other outputs; None where its link cannot be repeated.

    Args:
        extractor: What was found in the model.
        answer: What its answer is.
    """
    link = extractor.link
    if link is None or not link.hops or (answer.sign and answer.exclusive):
        return lambda outputs: answer.decide(answer.values(outputs, outputs))
    if not link.is_rowwise():
        return None
    dtype = link.outputs.dtype
    return lambda outputs: answer.decide(answer.values(outputs.to(dtype), link(outputs)))


def cautions(extractor: Extractor, answer: Answer, measured: Performance | None) -> Iterator[str]:
    """What a reader must know of the figures of the model's answer, each as `code: sentence`.

    Args:
        extractor: What was found in the model.
        answer: What its answer is.
        measured: Its performance; None without targets.
    """
    link = extractor.feature_map.link
    if measured is not None and answer.loss_kind is None:
        yield (
            f"no_loss: the model's answer is {link} of its last linear layer, which gives neither "
            "logits nor probabilities nor their logarithms, so no loss is reported."
        )
    elif measured is not None and measured.loss is None:
        yield "no_loss: the model's answers are not finite, so no loss is reported."
    if measured is not None and measured.accuracy is None and answer.task != "regression":
        yield (
            f"no_accuracy: from which value on the model's answer, {link} of its last linear "
            "layer, stands for yes cannot be told, so no accuracy is reported. Save the model with "
            "a sigmoid, or so that it returns its logits."
        )
    if deciding(extractor, answer) is None:
        yield (
            f"no_compressed_answers: {link} of the last linear layer cannot be repeated on other "
            "outputs, so the compression curve has no accuracy and no agreement."
        )
    if answer.task == "multilabel" and answer.exclusive:
        yield (
            "exclusive_labels: the model's answer is a softmax, so that its probabilities sum to "
            "one over the labels, while the probe's samples may have several."
        )

"""The form of the model's answer, found from its link, and decisions from other outputs."""

from collections.abc import Callable, Iterator

from torch import Tensor

from workers.diagnostics import Answer, Performance, Task
from workers.extraction import Extractor


def read_answer(extractor: Extractor, task: Task) -> Answer:
    """Find out the form of the model's answer f = link(u).

    If it is not known how the answer follows from the outputs (the report's `feature_map.verified`
    is then false), the form is found from the answer's values alone.

    Args:
        extractor: What was found in the model.
        task: Kind of the targets.
    """
    link, outputs = extractor.link, extractor.feature_map.outputs
    if _is_unlinked(extractor):
        values = extractor.unlinked
        return Answer.none(task) if values is None else Answer.of_values(task, values, outputs)
    if link is None or not link.hops:
        return Answer.of_logits(task, outputs)
    if not link.is_rowwise():
        return Answer.unknown(task)
    return Answer.of_link(task, link, outputs, link.outputs.dtype)


def head_by_class(extractor: Extractor) -> Tensor | None:
    """Return the head's weights by class of the answer, `(classes, p)`; None if a class has no row.

    None, too, if it is not known how the answer follows from the outputs: which row belongs to
    which class is then unknown.

    Args:
        extractor: What was found in the model.
    """
    weight, link = extractor.feature_map.W, extractor.link
    if weight is None or link is None:
        return None
    if link.chosen is None:
        return weight
    chosen = link.chosen
    if len(chosen) > 1:
        return weight[chosen]
    # One of two probabilities stands for both, as a single logit does.
    return weight[[1 - int(chosen), int(chosen)]] if len(weight) == 2 else None  # noqa: PLR2004 - two classes


def count_predicted_classes(extractor: Extractor, answer: Answer) -> int | None:
    """Count the classes that the model can predict; None if that is not known.

    Args:
        extractor: What was found in the model.
        answer: Form of the model's answer.
    """
    columns = extractor.feature_map.columns
    return max(columns, 2) if columns and answer.is_known else None


def deciding(extractor: Extractor, answer: Answer) -> Callable[[Tensor], Tensor | None] | None:
    """Return a function that decides from other outputs; None if the link cannot be repeated.

    Args:
        extractor: What was found in the model.
        answer: Form of the model's answer.
    """
    link = extractor.link
    if _is_unlinked(extractor) and extractor.feature_map.W is not None:
        return None
    if link is None or not link.hops or (answer.sign and answer.exclusive):
        return lambda outputs: answer.decide(answer.values(outputs, outputs))
    if not link.is_rowwise():
        return None
    dtype = link.outputs.dtype
    return lambda outputs: answer.decide(answer.values(outputs.to(dtype), link(outputs)))


def _is_unlinked(extractor: Extractor) -> bool:
    """Return whether there are outputs, but it is not known how the answer follows from them."""
    return extractor.link is None and extractor.feature_map.outputs > 0


def cautions(extractor: Extractor, answer: Answer, measured: Performance | None) -> Iterator[str]:
    """Yield what a reader must know about the answer's figures, each as `code: sentence`.

    Args:
        extractor: What was found in the model.
        answer: Form of the model's answer.
        measured: Performance of the answer; None without targets.
    """
    link = extractor.feature_map.link
    is_unlinked = _is_unlinked(extractor)
    if measured is not None and not answer.is_known:
        yield _no_performance(extractor)
        measured = None
    if measured is not None and answer.loss_kind is None:
        seen = (
            f"is {link} of its last linear layer, which gives"
            if not is_unlinked
            else "does not follow from the outputs in a way that was seen, and its values show"
        )
        yield (
            f"no_loss: the model's answer {seen} neither logits nor probabilities (of classes, "
            "which sum to one, or of each output by itself) nor their logarithms, so no loss is "
            "reported."
        )
    elif measured is not None and measured.loss is None:
        yield "no_loss: the model's answers are not finite, so no loss is reported."
    if measured is not None and measured.accuracy is None and answer.task != "regression":
        what = "" if is_unlinked else f", {link} of its last linear layer,"
        yield (
            f"no_accuracy: from which value on the model's answer{what} stands for yes cannot be "
            "told, so no accuracy is reported. Save the model with a sigmoid, or so that it "
            "returns its logits."
        )
    if deciding(extractor, answer) is None:
        what = "what follows the layer that was chosen"
        if not is_unlinked:
            what = f"{link} of the last linear layer"
        yield (
            f"no_compressed_answers: {what} cannot be repeated on other outputs, so the "
            "compression curve has no accuracy and no agreement."
        )
    if answer.task == "multilabel" and answer.exclusive:
        yield (
            "exclusive_labels: the model's answer is a softmax, so that its probabilities sum to "
            "one over the labels, while the probe's samples may have several."
        )


def _no_performance(extractor: Extractor) -> str:
    """Say why the answers have no performance figures when the owner chose the head."""
    found, answers = extractor.feature_map, extractor.unlinked
    said = "so there is no accuracy, no loss and no skill."
    if answers is None:
        return (
            "no_performance: no result of the model is known to be its answer with one row for "
            f"each row of outputs, {said} If it returns several results, name the answer beside "
            'the layer, as "output".'
        )
    return (
        f"no_performance: the layer that was chosen has {_outputs(found.outputs)}, and the model's "
        f"answer {_columns(answers.shape[1])}, {said}"
    )


def _outputs(count: int) -> str:
    return f"{count:,} {'output' if count == 1 else 'outputs'}"


def _columns(count: int) -> str:
    return f"{count:,} {'column' if count == 1 else 'columns'}"

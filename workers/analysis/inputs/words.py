"""What a model got of a probe, in words, for the report."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from service.contract.transform import Transform
from workers.analysis.inputs.binding import Binding
from workers.analysis.inputs.scale import Scale
from workers.analysis.inputs.trying import Trial
from workers.probes.containers.container import shape_text

_LISTED = 16


def in_words(
    array: str,
    stored: npt.NDArray[np.generic],
    transform: Transform,
    scale: Scale,
    said: Transform | None,
) -> str:
    """Return what was done to an input, and why, in one line."""
    done = []
    if transform.layout is not None:
        is_said = said is not None and said.layout is not None
        done.append(transform.layout + ("" if is_said else ", as the model takes it"))
    if transform.dtype is not None and transform.dtype != stored.dtype.name:
        is_said = said is not None and said.dtype is not None
        done.append(f"as {transform.dtype}{'' if is_said else ', which the model takes'}")
    if transform.scale is not None and transform.scale != 1:
        is_said = said is not None and said.scale is not None
        factor = f"× {transform.scale:.6g}" if is_said else f"÷ {scale.divisor}"
        done.append(factor)
    if transform.mean is not None or transform.std is not None:
        done.append("minus mean, ÷ std")
    words = "; ".join(done) or "as stored"
    reason = f": {scale.why}" if scale.why else ""
    return f"{array!r} ({stored.dtype.name} {shape_text(stored.shape)}): {words}{reason}."


def notes(trial: Trial, binding: Binding) -> Iterator[str]:
    """Yield which array went where, where that was no matter of course, and what was left over."""
    names = [trial.arguments[position].name for position in trial.binding.arrays]
    if len(names) > 1 or len(trial.probe.stored) > 1:
        pairs: Mapping[str, str] = dict(zip(names, binding.arrays.values(), strict=True))
        given = ", ".join(f"{name} ← {array!r}" for name, array in pairs.items())
        yield f"The model's arguments got these arrays ({binding.why}): {given}."
    unused = [n for n in trial.probe.stored if n not in binding.arrays.values()]
    excluded = trial.probe.spec.exclude or ()
    unused += [name for name in trial.probe.others if name not in excluded]
    if unused:
        listed = ", ".join(map(repr, unused[:_LISTED])) + (" …" if len(unused) > _LISTED else "")
        yield f"Not used, as no argument of the model got it: {listed}."

"""Names of classes that a file itself tells, written into the spec."""

from collections.abc import Sequence

from pydantic import ValidationError

from service.contract.probe_spec import ProbeSpec
from workers.probes.containers.container import unreadable
from workers.protocol.errors import JobError

_LISTED = 12
_WRITTEN_OUT = 100


def with_class_names(spec: ProbeSpec, names: Sequence[str]) -> ProbeSpec:
    """Return the spec with the classes' names, unless it has some or they are too many for one."""
    if spec.class_names is not None or spec.declares_no_target or spec.task == "regression":
        return spec
    try:
        return ProbeSpec.model_validate({**spec.model_dump(mode="json"), "class_names": names})
    except ValidationError:
        return spec


def two_orders(what: str, one: Sequence[str], its: str, other: Sequence[str], of: str) -> JobError:
    """Return the question in which of two orders the classes are.

    Args:
        what: The beginning of the message: what has two orders.
        one: The first order.
        its: Whose order that is.
        other: The second order.
        of: Whose order that is.
    """
    return unreadable(
        f"{what}: {_listed(one)} is the order of {its}, {_listed(other)} that of {of}; which of "
        "the two your model's outputs have cannot be told.",
        hint='Set "class_names" in the spec to the classes in the order of the outputs: '
        f"{_as_json(one)} or {_as_json(other)}.",
        detail={"orders": [[*one[:_WRITTEN_OUT]], [*other[:_WRITTEN_OUT]]]},
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (" …" if len(names) > _LISTED else "")


def _as_json(names: Sequence[str]) -> str:
    shown = ", ".join(f'"{name}"' for name in names[:_WRITTEN_OUT])
    return f"[{shown}{', …' if len(names) > _WRITTEN_OUT else ''}]"

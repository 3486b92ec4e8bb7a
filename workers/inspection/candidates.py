"""The linear operations of one recorded run, and for each why it is the head or is not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from workers.extraction.head.kinds import HEADS, Head, parse_head
from workers.extraction.head.rules import RULES
from workers.extraction.head.structure import (
    Names,
    Structure,
    carrying_factor,
    find_path,
    locate,
    trace_output,
)
from workers.extraction.refusals import printable
from workers.extraction.trace.execution import Output
from workers.extraction.trace.operations import Step
from workers.extraction.trace.tape import Tape
from workers.protocol.errors import JobError

_STEPS_NAMED = 4


@dataclass(frozen=True, slots=True)
class Ending:
    """What one of the model's outputs ends in.

    Attributes:
        output: The output.
        heads: The linear operations it was followed back to; none if it met none.
        structure: How it comes from that operation; `None` if it is not linear in its features.
        refusal: Why there is no structure.
    """

    output: Output
    heads: tuple[Step, ...]
    structure: Structure | None
    refusal: JobError | None

    @property
    def name(self) -> str:
        """The output in words."""
        return f"the output `{self.output.label}`" if self.output.label else "the output"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A linear operation with one factor that depends on the input.

    Attributes:
        index: Position of the operation in the run, from 0.
        location: Name of its weight, or the operation where weights have no names.
        operation: The operation, such as `aten::linear`.
        kind: `linear`, `conv1x1`, `conv3x3`, …; `None` if it is no plain linear layer.
        features: Number of features p; `None` likewise.
        outputs: Number of outputs C; `None` likewise.
        is_taken: It is the head.
        reason: Why it is, or why it is not.
    """

    index: int
    location: str
    operation: str
    kind: str | None
    features: int | None
    outputs: int | None
    is_taken: bool
    reason: str


def find_endings(tape: Tape, outputs: Sequence[Output], model: nn.Module) -> list[Ending]:
    """Walk back from each output by itself."""
    names = Names.of(model)
    return [_ending(tape, output, names) for output in outputs]


def _ending(tape: Tape, output: Output, names: Names) -> Ending:
    heads: tuple[Step, ...] = ()
    try:
        heads = find_path(tape, output.tensor).heads
        return Ending(output, heads, trace_output(tape, output, names), None)
    except JobError as refusal:
        # Where several were met, what becomes of each is said of it by itself.
        return Ending(output, heads if len(heads) == 1 else (), None, refusal)


def candidate_steps(tape: Tape) -> list[Step]:
    """Return the linear operations of a run, in the order in which they ran."""
    return [step for step in tape.steps if carrying_factor(tape, step) is not None]


def describe_candidates(
    steps: Sequence[Step],
    tape: Tape,
    model: nn.Module,
    endings: Sequence[Ending],
    taken: str | JobError,
) -> list[Candidate]:
    """Say of linear operations why they are the head or are not.

    Args:
        steps: Some of `candidate_steps`.
        tape: The run.
        model: The model, whose parameters give the names.
        endings: What its outputs end in.
        taken: Label of the output whose head was taken, or why none was.
    """
    describer = _Describer(tape, model, endings, taken)
    return [describer.describe(step) for step in steps]


class _Describer:
    """Describes the operations of one run."""

    def __init__(
        self, tape: Tape, model: nn.Module, endings: Sequence[Ending], taken: str | JobError
    ) -> None:
        self._tape = tape
        self._endings = endings
        self._taken = taken
        self._users = _users(tape)
        self._names = Names.of(model)

    def describe(self, step: Step) -> Candidate:
        operand = carrying_factor(self._tape, step) or 0
        head = _parse(step, operand)
        outputs, features = (None, None) if head is None else head.weight.shape
        is_taken, reason = self._judge(step)
        return Candidate(
            index=step.index,
            location=printable(locate(self._tape, step, operand, self._names)),
            operation=step.name,
            kind=None if head is None else head.kind,
            features=features,
            outputs=outputs,
            is_taken=is_taken,
            reason=reason,
        )

    def _number(self, step: Step) -> str:
        return f"{step.name} (operation {step.index + 1} of {len(self._tape.steps)})"

    def _judge(self, step: Step) -> tuple[bool, str]:
        """Return whether an operation is the head, and why."""
        endings = [ending for ending in self._endings if any(head is step for head in ending.heads)]
        if not endings:
            return False, f"not taken: {self._follow(step)}."
        for ending in endings:
            if ending.refusal is not None:
                return False, f"not taken: {ending.refusal.failure.message}"
        made = " and ".join(f"{ending.name} is {_of_it(ending.structure)}" for ending in endings)
        if isinstance(self._taken, JobError):
            return False, f"not taken, although {made}: {self._taken.failure.message}"
        if any(ending.output.label == self._taken for ending in endings):
            return True, f"taken: {made}."
        return False, f"not taken: {made}, which lies on the way to `{self._taken}`."

    def _follow(self, step: Step) -> str:
        """Say what becomes of the result of an operation that no output was followed back to."""
        passed: list[str] = []
        while True:
            users = self._next(step)
            if len(users) != 1:
                whose = f"its result {_way(passed)}, whose result" if passed else "its result"
                return f"{whose} {self._spread(users)}"
            (step,) = users
            passed.append(self._number(step))
            obstacle = self._obstacle(step)
            if obstacle is not None:
                return f"its result {_way(passed)}, {obstacle}"

    def _spread(self, users: Sequence[Step]) -> str:
        if not users:
            return "is used by nothing that follows"
        names = ", ".join(self._number(user) for user in users[:_STEPS_NAMED])
        more = len(users) - _STEPS_NAMED
        return f"goes into {len(users)} operations: {names}" + (f", … {more} more" * (more > 0))

    def _next(self, step: Step) -> list[Step]:
        """Return the steps that take a step's result: the one that overwrites it, or all."""
        users = {
            user.index: user
            for tensor in step.outputs
            for user in self._users.get(id(tensor), ())
            if user.index > step.index
        }
        later = [users[index] for index in sorted(users)]
        return later[:1] if later and later[0].operation.writes else later

    def _obstacle(self, step: Step) -> str | None:
        """Return what ends the way through a step; `None` if it goes on."""
        if step.name in HEADS:
            return "another linear operation"
        dependent = {id(tensor) for tensor in step.tensors() if self._tape.depends(tensor)}
        if len(dependent) > 1:
            return f"which combines {len(dependent)} tensors that depend on the input"
        if step.name not in RULES:
            return "through which it could not be followed"
        return None


def _parse(step: Step, operand: int) -> Head | None:
    """Read an operation as a linear layer, if it is one; on one sample, which is quick."""
    try:
        return parse_head(step, operand, HEADS[step.name].factors(step)[operand][:1])
    except JobError:
        return None


def _way(passed: Sequence[str]) -> str:
    """Return the operations passed, those in the middle left out where they are many."""
    if len(passed) > _STEPS_NAMED:
        passed = [*passed[: _STEPS_NAMED - 1], "…", passed[-1]]
    return f"goes on to {' → '.join(passed)}"


def _of_it(structure: Structure | None) -> str:
    if structure is None or structure.link == "identity":
        return "its result"
    return f"{structure.link} of it"


def _users(tape: Tape) -> Mapping[int, list[Step]]:
    """Return the steps that take each tensor, by its identity."""
    users: dict[int, list[Step]] = {}
    for step in tape.steps:
        for key in {id(tensor) for tensor in step.tensors()}:
            users.setdefault(key, []).append(step)
    return users

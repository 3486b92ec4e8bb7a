"""What became of a job: from a process's end and its files to something a person can act on."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from service.contract.failures import Failure, FailureCode
from service.contract.security_events import SecurityEvent
from workers.protocol.failures import out_of_memory
from workers.protocol.requests import Ended, JobLimits
from workers.protocol.result import MalformedResultError, parse_result

_CRASHES = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP}
)


@dataclass(frozen=True)
class Succeeded:
    """The job's result, still the child's word: figures in it are to be validated.

    Args:
        header: Its JSON; finite numbers and storable text.
        sections: Its binary parts.
        log: What the job printed, escaped and cut.
        ended: The process's end.
    """

    header: Mapping[str, JsonValue]
    sections: Mapping[str, bytes]
    log: str
    ended: Ended


@dataclass(frozen=True)
class Failed:
    """Why there is no result.

    Args:
        failure: For the job's owner.
        log: What the job printed, escaped and cut.
        ended: The process's end; None if the warm parent died with it.
        event: For the operator.
    """

    failure: Failure
    log: str
    ended: Ended | None
    event: SecurityEvent | None = None


@dataclass(frozen=True)
class Cancelled:
    """Stopped because it was asked for; the process is gone.

    Args:
        log: What the job printed, escaped and cut.
    """

    log: str


Outcome = Succeeded | Failed | Cancelled


def judge(
    ended: Ended, result: bytes, log: str, limits: JobLimits, *, confined: bool, by_kernel: bool
) -> Succeeded | Failed:
    """Judge a job that was left to end on its own.

    Args:
        ended: How its process ended.
        result: Its result file.
        log: What it printed.
        limits: What it had been granted.
        confined: Whether its process was walled in, before which it does nothing of the job.
        by_kernel: Whether the kernel killed any process for want of memory meanwhile.
    """
    if not confined:
        return Failed(_not_confined(), log, ended, SecurityEvent.NOT_CONFINED)
    if ended.signal is not None:
        failure = _killed(ended.signal, limits, by_kernel=by_kernel)
        return Failed(failure, log, ended, _event_of(ended.signal))
    if ended.exit_code != 0:
        failure = _crashed(f"The job's process exited with status {ended.exit_code}.")
        return Failed(failure, log, ended, SecurityEvent.CRASHED)
    try:
        parsed = parse_result(result)
    except MalformedResultError as error:
        failure = _crashed(f"The job left a result that cannot be trusted: {error}.")
        return Failed(failure, log, ended, SecurityEvent.UNTRUSTED_RESULT)
    if isinstance(parsed, Failure):
        return Failed(parsed, log, ended)
    return Succeeded(parsed.header, parsed.sections, log, ended)


def deadline_passed(deadline_s: float) -> Failure:
    """Return the failure of a job that was still running at its deadline."""
    return Failure(
        code=FailureCode.TIME_LIMIT,
        message=f"The job did not end within {deadline_s:,.6g} s and was stopped.",
        hint="Use fewer samples, or raise the time limit.",
        detail={"deadline_s": deadline_s},
    )


def lost() -> Failure:
    """Return the failure of a job whose warm parent died: nobody's model is to blame."""
    return Failure(
        code=FailureCode.LOST,
        message="The worker's warm parent process ended while the job was running.",
        hint="The job can be run again as it is.",
    )


def _killed_by_a_stranger() -> Failure:
    return Failure(
        code=FailureCode.LOST,
        message="The job's process was killed from outside, and not for want of memory.",
        hint="The job can be run again as it is. Somebody or something on the worker's machine "
        "ends processes there.",
    )


def _not_confined() -> Failure:
    return Failure(
        code=FailureCode.LOST,
        message="The worker could not confine the job's process, or get it a GPU, and so did not "
        "run it.",
        hint="Not the model is at fault but the worker: its log says why.",
    )


def _policy_violated() -> Failure:
    return Failure(
        code=FailureCode.POLICY_VIOLATION,
        message="The model, or the probe's file, made the job's process ask the system for "
        "something that no analysis needs, such as to write a file, to open a connection or to "
        "start a program. The process was ended.",
        hint="Remove what does so from the model, and export it again. If nothing does, report "
        "this as a defect of Phiscope.",
    )


def _event_of(number: int) -> SecurityEvent | None:
    if number == signal.SIGSYS:
        return SecurityEvent.POLICY_VIOLATION
    return SecurityEvent.CRASHED if number in _CRASHES else None


def _killed(number: int, limits: JobLimits, *, by_kernel: bool) -> Failure:
    if number == signal.SIGSYS:
        return _policy_violated()
    if number == signal.SIGXCPU:
        return Failure(
            code=FailureCode.TIME_LIMIT,
            message=f"The job used more than the {limits.cpu_seconds:,} s of processor time it is "
            "allowed and was stopped.",
            hint="Use fewer samples, or raise the processor time limit.",
            detail={"cpu_seconds": limits.cpu_seconds},
        )
    if number == signal.SIGKILL:
        # Nobody here did: the kernel, if it has killed for want of memory meanwhile.
        return out_of_memory(limits) if by_kernel else _killed_by_a_stranger()
    name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
    what = "crashed" if number in _CRASHES else "was ended"
    return _crashed(f"The job's process {what} with signal {name}.")


def _crashed(message: str) -> Failure:
    return Failure(
        code=FailureCode.CRASHED,
        message=message,
        hint="Check that the model runs on its own with this input; the worker's log holds what "
        "the job printed.",
    )

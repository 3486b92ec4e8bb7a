"""How jobs fail that both sides of the process boundary may find failing."""

from service.contract.failures import Failure, FailureCode
from workers.protocol.requests import JobLimits


def out_of_memory(limits: JobLimits) -> Failure:
    """Return the failure of a job that asked for more memory than it may have, or than there is."""
    return Failure(
        code=FailureCode.OUT_OF_MEMORY,
        message=f"The job needs more memory than the {limits.memory_bytes / 2**20:,.0f} MiB it is "
        "allowed, or than the machine has.",
        hint="Use a smaller batch size or fewer samples, or raise the memory limit.",
        detail={"memory_bytes": limits.memory_bytes},
    )


def defect() -> Failure:
    """Return the failure of a job that ended with an error which nobody foresaw."""
    return Failure(
        code=FailureCode.CRASHED,
        message="Phiscope failed on this model or this probe, where it should have said what is "
        "wrong with it, or done what was asked.",
        hint="This is a defect of Phiscope: please report it, with what the worker's log holds of "
        "this job. Until it is mended, another form of the same model (traced, scripted or "
        "exported) may get through.",
    )

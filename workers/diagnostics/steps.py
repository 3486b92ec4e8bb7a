"""Progress of a diagnosis."""

from collections.abc import Callable


class Steps:
    """Counter of the steps that are done.

    Args:
        on_step: Called with the number of steps done and their total.
        count: Total number of steps.
    """

    def __init__(self, on_step: Callable[[int, int], None], count: int) -> None:
        self._on_step = on_step
        self._count = count
        self._done = 0

    def advance(self, steps: int = 1) -> None:
        """Count steps as done, and report."""
        self._done += steps
        self._on_step(self._done, self._count)

"""How far a diagnosis has come, for whoever waits for it."""

from collections.abc import Callable


class Steps:
    """Counts steps as they are done.

    Args:
        on_step: Called with how many are done, of how many.
        count: How many there are.
    """

    def __init__(self, on_step: Callable[[int, int], None], count: int) -> None:
        self._on_step = on_step
        self._count = count
        self._done = 0

    def advance(self, steps: int = 1) -> None:
        """Count steps that are done."""
        self._done += steps
        self._on_step(self._done, self._count)

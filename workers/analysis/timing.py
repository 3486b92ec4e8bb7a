"""How long the parts of a job take."""

import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager


@contextmanager
def timed(timings: MutableMapping[str, float], name: str) -> Iterator[None]:
    """Note the seconds that what is within takes, on top of those noted under this name before."""
    began = time.perf_counter()
    yield
    timings[name] = timings.get(name, 0.0) + time.perf_counter() - began

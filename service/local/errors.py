"""The one error of running Phiscope locally."""


class LocalError(Exception):
    """Something that a local Phiscope needs is missing or unusable.

    The message is written for the person at the terminal: what was wrong, what was expected, and
    what to do. Print it alone, without a traceback.
    """

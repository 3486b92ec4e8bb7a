"""The one error of the embedded stack."""


class LocalStackError(Exception):
    """Something the embedded stack needs is not as it must be.

    The message is written for the person at the terminal: what was wrong, what was expected, and
    what to do. Print it alone, without a traceback.
    """

"""Phiscope's API: HTTP, database, storage and command line. Never imports torch or `workers`."""

from importlib.metadata import version

__version__ = version("phiscope")

"""Phiscope's API: HTTP, the database, storage and the command line. Never imports torch or `workers`."""

from importlib.metadata import version

__version__ = version("phiscope")

"""Probe files of every kind that the guide's page on data tells of, and what is read from them."""

from tests.workers.probes.data import archives, arrow, images, parquet, plain, text

CASES = [
    *plain.CASES,
    *parquet.CASES,
    *arrow.CASES,
    *text.CASES,
    *images.CASES,
    *archives.CASES,
]

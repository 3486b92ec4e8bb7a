"""The process boundary: a warm parent that forks one confined child for each job.

    Celery process ── Runner ──▶ warm parent (torch) ──fork──▶ child (one job, one result file)

The Celery process holds no torch and never opens an upload. It imports `supervisor` only.
"""

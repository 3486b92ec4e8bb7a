"""The Celery process: takes up jobs, has a child carry each out, writes what became of it.

No model or probe is opened here, and torch is not imported.
"""

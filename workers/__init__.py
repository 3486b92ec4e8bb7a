"""Phiscope's workers: Celery tasks that supervise, and the confined child that opens models and probes."""

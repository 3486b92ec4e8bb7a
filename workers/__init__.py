"""Phiscope's workers: tasks that supervise, and the child that opens models and probes."""

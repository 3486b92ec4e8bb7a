"""Probes: the reference datasets that models are looked at with."""

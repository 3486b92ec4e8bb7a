"""Analyses: the job itself, the report it ends in, and what every figure in it means."""

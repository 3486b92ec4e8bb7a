"""Analysing a model on a probe, inside the confined child: one pass, the figures, the artifacts."""

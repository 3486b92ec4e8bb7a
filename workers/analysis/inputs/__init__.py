"""Giving a probe to a model: which array each argument gets, and what is done to its values."""

from workers.analysis.inputs.fitting import Fitted, fit, fit_alike

__all__ = ["Fitted", "fit", "fit_alike"]

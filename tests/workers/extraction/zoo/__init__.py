"""Models written to be opened as archives, each with its Φ, W, b and u known from eager mode.

The zoo knows nothing of how features are found: what is true of a model is taken from its own
modules, before it is saved.
"""

from zoo.case import Accepted, Case, Refused, Truth
from zoo.catalogue import CASES, QUANTIZED

__all__ = ["CASES", "QUANTIZED", "Accepted", "Case", "Refused", "Truth"]

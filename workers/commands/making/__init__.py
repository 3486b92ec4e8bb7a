"""Making a probe file of what a person has in Python, and trying it on a model at once."""

from workers.commands.making.arrays import Made, make_arrays
from workers.commands.making.files import make_probe

__all__ = ["Made", "make_arrays", "make_probe"]

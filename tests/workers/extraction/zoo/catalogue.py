"""All cases of the zoo."""

from zoo.beside import beside
from zoo.broken import broken
from zoo.chosen import chosen
from zoo.control import control
from zoo.convolutional import convolutional
from zoo.embeddings import embeddings
from zoo.heads import heads
from zoo.layers import layers
from zoo.made import made
from zoo.maps import maps
from zoo.numerics import numerics
from zoo.parts import parts
from zoo.refused import refused
from zoo.sequential import sequential
from zoo.signatures import signatures
from zoo.tails import tails

CASES = [
    case
    for family in (
        convolutional,
        sequential,
        heads,
        maps,
        tails,
        numerics,
        signatures,
        beside,
        parts,
        layers,
        embeddings,
        control,
        made,
        chosen,
        refused,
        broken,
    )
    for case in family()
]

QUANTIZED = ("dynamic-", "dynamichalf-", "dynamichead-", "staticmlp-", "staticcnn-")
"""What names of cases begin with whose weights are packed for a CPU."""

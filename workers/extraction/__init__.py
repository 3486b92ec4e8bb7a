"""Finding the forward feature map Φ and the last linear layer in a model one did not write.

Every operation that really runs passes through a dispatch tape, whatever the archive looks like
(scripted, traced, frozen). The tape is walked back from the output to the last linear operation; Φ
is that operation's input.
"""

from workers.extraction.extractor import Extracted, Extractor, discover
from workers.extraction.feature_map import FeatureMap
from workers.extraction.loading.archives import load_model, open_model
from workers.extraction.refusals import Refusal

__all__ = [
    "Extracted",
    "Extractor",
    "FeatureMap",
    "Refusal",
    "discover",
    "load_model",
    "open_model",
]

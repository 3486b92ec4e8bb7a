"""Finding the forward feature map Φ and the last linear layer in an arbitrary model.

A tape records every operation that is dispatched while the model runs, whatever the archive's form
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

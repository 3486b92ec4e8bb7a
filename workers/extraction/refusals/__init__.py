"""Why Φ cannot be taken from a model, in words that may be shown."""

from workers.extraction.refusals.refusing import Refusal, refuse
from workers.extraction.refusals.wording import NO_REASON, gist, inherent, printable

__all__ = ["NO_REASON", "Refusal", "gist", "inherent", "printable", "refuse"]

"""The product's side of the zoo: opening an archive, and declaring what is meant."""

import io

from torch import nn

from service.contract.options import FeatureMapChoice
from workers.extraction import Extractor, discover, load_model
from zoo.case import DISCOVERY_ROWS, Case


def load(archive: bytes) -> nn.Module:
    """Opens an archive as the product does."""
    return load_model(io.BytesIO(archive))


def explore(case: Case) -> Extractor:
    """Lets the product find what is in a case's archive, with its choice if it has one."""
    choice = case.expected.choice
    return discover(
        load(case.archive),
        case.batch(DISCOVERY_ROWS),
        choice=FeatureMapChoice(**choice) if choice else None,
    )

"""Checks of uploaded model archives, without ever opening them as models.

PyTorch reads archives that no other reader agrees on, and unpacks whatever they hold. What passes
here is unambiguous, small enough to unpack, and made of the parts that an exporter writes. That is
early feedback and a narrower target, not the wall: a model is a program, and runs in the confined
child alone.
"""

from service.contract.archives.checks import ModelFormat, check_archive
from service.contract.archives.errors import ArchiveError

__all__ = ["ArchiveError", "ModelFormat", "check_archive"]

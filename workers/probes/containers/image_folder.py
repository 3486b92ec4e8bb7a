"""Images in a zip or tar, one folder for each class."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt

from service.contract.failures import FailureCode
from service.contract.probe_spec import ImageMode, ProbeSpec
from workers.probes.containers import pictures
from workers.probes.containers.class_names import two_orders, with_class_names
from workers.probes.containers.container import ArrayInfo, check_name, size_in_bytes, unreadable
from workers.probes.containers.members import Member, Members, common_folder
from workers.probes.containers.pictures import SUFFIXES
from workers.protocol.arguments import ProbeLimits
from workers.protocol.errors import JobError

_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing", "eval", "dev"}
_NAMED = 3


class ImageFolder:
    """A container of the images as `x`, and the names of their folders as `y`.

    The samples are in the order of their folders and names, as torchvision's and Hugging Face's
    readers have them. Images that are all in one folder, or in none, have no `y`.

    Args:
        members: What the archive holds.
        limits: What it may ask for.
        image_mode: What images are decoded to; None to go by what they are.

    Raises:
        JobError: `probe_unreadable`, saying what was found instead.
    """

    def __init__(self, members: Members, limits: ProbeLimits, image_mode: ImageMode | None) -> None:
        self._limits = limits
        self._files = [file for file in members.visible() if file.suffix in SUFFIXES]
        if not self._files:
            raise JobError(
                FailureCode.TOO_FEW_SAMPLES,
                "The archive holds no images; expected at least 1.",
                hint=f"Pack files ending in {', '.join(SUFFIXES)}, one folder for each class.",
            )
        self._labels, self.classes = _labels(self._files, members.folders)
        self._pictures = pictures.look_through(self._images(), len(self._files), limits)
        self.image_mode: ImageMode = image_mode or pictures.common_mode([self._pictures])
        dtype, shape = self._pictures.described(self.image_mode)
        self._arrays = {"x": ArrayInfo(dtype, shape, size_in_bytes("x", shape, 1))}
        if self.classes:
            self._arrays["y"] = ArrayInfo("str", shape[:1], 0)

    @property
    def arrays(self) -> Mapping[str, ArrayInfo]:
        """`x`, and `y` where there are folders."""
        return self._arrays

    def read(self, name: str) -> npt.NDArray[np.generic]:
        """Decode the images, or read the labels."""
        if name == "y":
            return np.array(self._labels, np.str_)
        return pictures.decode(self._images(), self._pictures, self.image_mode)

    def complete(self, spec: ProbeSpec) -> ProbeSpec:
        """Return the spec with what the folders tell.

        Raises:
            JobError: `probe_unreadable` if the order of the classes cannot be told.
        """
        spec = spec.model_copy(update={"image_mode": self.image_mode})
        if spec.class_names is not None or not self.classes or spec.declares_no_target:
            return spec
        _check_order(self.classes)
        return with_class_names(spec, self.classes)

    def _images(self) -> Iterator[tuple[str, bytes]]:
        for file in self._files:
            yield repr(file.name), file.read(self._limits)


def _labels(files: Sequence[Member], folders: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return each image's class and all classes, sorted; nothing for images without folders."""
    paths = [file.path for file in files]
    outer = common_folder(paths)
    depths = {len(path.parent.parts) for path in paths}
    if depths == {outer}:
        return [], []
    if depths != {outer + 1}:
        raise _misplaced(paths, outer)
    labels = [path.parent.name for path in paths]
    above = paths[0].parts[:outer]
    empty = {
        folder.name
        for folder in map(PurePosixPath, folders)
        if len(folder.parts) == outer + 1 and folder.parts[:outer] == above
    }
    classes = sorted({*labels, *empty})
    if len(classes) > 1 and {name.lower() for name in classes} <= _SPLITS:
        raise _splits(classes)
    for name in classes:
        check_name(name)
    return labels, classes


def _check_order(classes: Sequence[str]) -> None:
    """Refuse folders whose names are numbers that do not sort as text the way they count."""
    if not all(name.isascii() and name.isdigit() for name in classes):
        return
    counted = sorted(classes, key=int)
    if counted != classes:
        raise two_orders(
            "The folders are numbers",
            counted,
            "the numbers",
            classes,
            "text, which torchvision's ImageFolder and Hugging Face's imagefolder follow",
        )


def _misplaced(paths: Sequence[PurePosixPath], outer: int) -> JobError:
    """Return the failure of images that are not all in one folder, that of their class."""
    outermost = sorted({path.parts[outer] for path in paths})
    if {name.lower() for name in outermost} <= _SPLITS:
        return _splits(outermost)
    right = [path for path in paths if len(path.parent.parts) == outer + 1]
    odd = [path for path in paths if len(path.parent.parts) != outer + 1]
    folders = len(odd[0].parent.parts) - outer
    listed = ", ".join(repr(str(path)[:80]) for path in odd[:_NAMED])
    others = f" and {len(odd) - _NAMED:,} more" if len(odd) > _NAMED else ""
    pack = "Pack one folder for each class, with its images directly in it."
    if right:
        pack = f"Leave {listed}{others} out, or put each into the folder of its class. {pack}"
    return unreadable(
        f"The images are not each in one folder of their class: {listed}{others} "
        f"{'are' if len(odd) > 1 else 'is'} not"
        + (f", as {str(right[0])!r} is" if right else f", but in {folders} folders")
        + "; expected CLASS/IMAGE, for every image.",
        hint=pack,
        detail={"file": str(odd[0])[:200]},
    )


def _splits(names: Sequence[str]) -> JobError:
    return unreadable(
        f"The archive's folders are the parts of a dataset, {', '.join(names)}, and no classes.",
        hint=f"Pack what is in {names[0]!r} alone, with one folder for each class.",
    )

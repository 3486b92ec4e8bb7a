"""What a spec leaves open, answered from the file's directory."""

from collections.abc import Mapping

from service.probes.spec import ProbeSpec, Transform
from workers.probes.container import ArrayInfo, shape_text, unreadable

INPUT_NAMES = ("x", "X", "inputs", "input", "images", "image", "data", "features")
TARGET_NAMES = ("y", "Y", "targets", "target", "labels", "label")

_IMAGE_CHANNELS = (1, 3, 4)
_IMAGE_BATCH_AXES = 4
_UINT8_SCALE = 1 / 255


def choose_input(spec: ProbeSpec, arrays: Mapping[str, ArrayInfo]) -> str:
    """The array with the inputs: the one named, one with a customary name, else the largest.

    Raises:
        JobError: `probe_unreadable` if the named array is missing or none could be inputs.
    """
    if spec.input is not None:
        return _present(spec.input, "input", arrays)
    candidates = {
        name: info
        for name, info in arrays.items()
        if info.is_numeric and len(info.shape) > 1 and name != spec.target
    }
    for name in INPUT_NAMES:
        if name in candidates:
            return name
    if not candidates:
        raise unreadable(
            "No array of the probe can be the inputs: expected a numeric array of samples × "
            f"features, found {describe(arrays)}.",
            hint="Save the inputs as an array named 'x' with one row a sample.",
        )
    return max(candidates, key=lambda name: candidates[name].nbytes)


def choose_target(
    spec: ProbeSpec, chosen_input: str, arrays: Mapping[str, ArrayInfo]
) -> str | None:
    """The array with the targets, or None for a probe without.

    The one named; else the input's own partner (`y_test` of `x_test`), else a customary name.

    Raises:
        JobError: `probe_unreadable` if the named array is missing.
    """
    if spec.target is not None:
        return _present(spec.target, "target", arrays)
    if spec.declares_no_target:
        return None
    names = list(TARGET_NAMES)
    if chosen_input[0] in "xX":
        names.insert(0, {"x": "y", "X": "Y"}[chosen_input[0]] + chosen_input[1:])
    return next((name for name in names if name in arrays and name != chosen_input), None)


def infer_transform(spec: ProbeSpec, info: ArrayInfo) -> Transform:
    """The transform: as given, else images of bytes become channels-first floats in [0, 1].

    Double precision becomes single, which is what models take and numpy does not default to.
    Everything else stays as it is stored.
    """
    if spec.transform is not None:
        return _with_float_dtype(spec.transform, info)
    if info.dtype == "float64":
        return Transform(dtype="float32")
    if info.dtype != "uint8":
        return Transform()
    scaled = Transform(dtype="float32", scale=_UINT8_SCALE)
    channels_last = (
        len(info.shape) == _IMAGE_BATCH_AXES
        and info.shape[-1] in _IMAGE_CHANNELS
        and info.shape[1] not in _IMAGE_CHANNELS
    )
    return (
        Transform(layout="NHWC->NCHW", dtype="float32", scale=_UINT8_SCALE)
        if channels_last
        else scaled
    )


def describe(arrays: Mapping[str, ArrayInfo], most: int = 8) -> str:
    """The arrays of a file in words, for a message."""
    listed = [
        f"{name[:60]!r} {info.dtype} {shape_text(info.shape)}"
        for name, info in list(arrays.items())[:most]
    ]
    if len(arrays) > most:
        listed.append(f"{len(arrays) - most} more")
    return ", ".join(listed) or "no arrays"


def _with_float_dtype(transform: Transform, info: ArrayInfo) -> Transform:
    """Arithmetic on stored integers happens in float32 unless the transform says otherwise."""
    arithmetic = (transform.scale, transform.mean, transform.std) != (None, None, None)
    if transform.dtype is None and arithmetic and not info.dtype.startswith("float"):
        return Transform.model_validate({**transform.model_dump(), "dtype": "float32"})
    return transform


def _present(name: str, role: str, arrays: Mapping[str, ArrayInfo]) -> str:
    if name not in arrays:
        raise unreadable(
            f"The spec names {name!r} as {role}, which the file does not hold; it holds "
            f"{describe(arrays)}.",
            hint=f'Set "{role}" in the spec to one of the names in the file.',
        )
    return name

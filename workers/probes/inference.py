"""What a spec leaves open, answered from the file's directory."""

from collections.abc import Mapping, Sequence

from service.probes.spec import ProbeSpec, Transform, TransformDtype
from workers.probes.container import ArrayInfo, shape_text, unreadable

INPUT_NAMES = ("x", "X", "inputs", "input", "images", "image", "data", "features")
TOKEN_NAMES = ("input_ids", "attention_mask", "token_type_ids")
"""What tokenizers call their results, in the order in which models take them."""

TARGET_NAMES = ("y", "Y", "targets", "target", "labels", "label")

_IMAGE_CHANNELS = (1, 3, 4)
_IMAGE_BATCH_AXES = 4
_UINT8_SCALE = 1 / 255
_USUAL_DTYPES: dict[str, TransformDtype] = {
    "float64": "float32",
    "int8": "int64",
    "int16": "int64",
    "int32": "int64",
}


def choose_inputs(spec: ProbeSpec, arrays: Mapping[str, ArrayInfo]) -> list[str]:
    """The arrays with the inputs, in the order of the model's arguments.

    Those named; else tokens with what customarily comes with them; else one array: that with a
    customary name, or the largest.

    Raises:
        JobError: `probe_unreadable` if a named array is missing or none could be inputs.
    """
    if spec.inputs:
        return [_present(name, "input", arrays) for name in spec.inputs]
    candidates = {
        name: info
        for name, info in arrays.items()
        if info.is_numeric and len(info.shape) > 1 and name != spec.target
    }
    if TOKEN_NAMES[0] in candidates:
        return [name for name in TOKEN_NAMES if name in candidates]
    for name in INPUT_NAMES:
        if name in candidates:
            return [name]
    if not candidates:
        raise unreadable(
            "No array of the probe can be the inputs: expected a numeric array of samples × "
            f"features, found {describe(arrays)}.",
            hint="Save the inputs as an array named 'x' with one row a sample.",
        )
    return [max(candidates, key=lambda name: candidates[name].nbytes)]


def choose_target(
    spec: ProbeSpec, inputs: Sequence[str], arrays: Mapping[str, ArrayInfo]
) -> str | None:
    """The array with the targets, or None for a probe without.

    The one named; else the first input's own partner (`y_test` of `x_test`), else a customary name.

    Raises:
        JobError: `probe_unreadable` if the named array is missing.
    """
    if spec.target is not None:
        return _present(spec.target, "target", arrays)
    if spec.declares_no_target:
        return None
    names = list(TARGET_NAMES)
    if inputs[0][0] in "xX":
        names.insert(0, {"x": "y", "X": "Y"}[inputs[0][0]] + inputs[0][1:])
    return next((name for name in names if name in arrays and name not in inputs), None)


def infer_transforms(
    spec: ProbeSpec, inputs: Sequence[str], arrays: Mapping[str, ArrayInfo]
) -> list[Transform]:
    """One transform per input: as given, else what is usual for such an array.

    Models take single precision, which numpy does not default to, and whole numbers as int64; bytes
    are taken for images, and become channels-first floats in [0, 1], if they are the first input.
    All else stays as it is stored.
    """
    if isinstance(spec.transform, list):
        given: list[Transform | None] = [*spec.transform]
    else:
        given = [spec.transform, *[None] * (len(inputs) - 1)]
    return [
        _usual_transform(name, arrays[name], may_be_images=name == inputs[0])
        if transform is None
        else _with_float_dtype(transform, arrays[name])
        for name, transform in zip(inputs, given, strict=True)
    ]


def _usual_transform(name: str, info: ArrayInfo, *, may_be_images: bool) -> Transform:
    if info.dtype in _USUAL_DTYPES:
        return Transform(dtype=_USUAL_DTYPES[info.dtype])
    if info.dtype != "uint8":
        return Transform()
    if name in TOKEN_NAMES:
        return Transform(dtype="int64")
    if not may_be_images:
        return Transform()
    channels_last = (
        len(info.shape) == _IMAGE_BATCH_AXES
        and info.shape[-1] in _IMAGE_CHANNELS
        and info.shape[1] not in _IMAGE_CHANNELS
    )
    return (
        Transform(layout="NHWC->NCHW", dtype="float32", scale=_UINT8_SCALE)
        if channels_last
        else Transform(dtype="float32", scale=_UINT8_SCALE)
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

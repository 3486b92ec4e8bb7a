"""Two transforms, one after the other, as the one transform that a spec holds."""

from service.contract.transform import Transform


def combine(first: Transform, second: Transform) -> Transform:
    """Return the transform that does what `second` does to the results of `first`.

    Args:
        first: What is done to the stored inputs.
        second: What is done after it; without `mean` and `std`, and without `scale` if `first`
            calculates, because a transform scales before it normalises.

    Raises:
        ValueError: No transform does both: `first` calculates and `second` makes integers of it.
    """
    keys = {
        key: value
        for transform in (first, second)
        for key, value in transform.model_dump().items()
        if value is not None
    }
    if first.layout is not None and first.axes is not None and second.axes is not None:
        stored, between = first.layout.split("->")
        wanted = "".join(between[axis] for axis in second.axes)
        keys["layout"] = f"{stored}->{wanted}"
        if stored == wanted and first.mean is None and first.std is None:
            del keys["layout"]  # otherwise it still says which axis the channels are on
    return Transform.model_validate(keys)

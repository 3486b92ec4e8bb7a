"""Numbers that are text for their commas: decimal ones, or such between thousands."""

import re
from collections.abc import Iterable

_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})*(\.\d+)?")


def is_number(text: str) -> bool:
    """Return whether a text is a number as files have them."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def advice(names: str, values: Iterable[str]) -> str | None:
    """Return how to write columns whose texts are numbers but for commas; None if they are not.

    Args:
        names: The columns, for the advice.
        values: All their texts.
    """
    texts = list(values)
    if not any("," in text for text in texts):
        return None
    separates = all(_THOUSANDS.fullmatch(text) for text in texts)
    is_decimal = all(is_number(text.replace(",", ".")) for text in texts)
    decimal = 'pandas.read_csv(path, sep=None, engine="python", decimal=",")'
    thousands = 'pandas.read_csv(path, sep=None, engine="python", thousands=",")'
    if separates and is_decimal:
        return (
            f"Write the numbers of {names} without commas: if these separate thousands, as "
            f"{thousands}.to_csv(new_path, index=False) does; if they are decimal ones, with "
            f"{decimal}."
        )
    if separates or is_decimal:
        how = "with decimal points" if is_decimal else "without commas"
        read = decimal if is_decimal else thousands
        return f"Write the numbers of {names} {how}, as {read}.to_csv(new_path, index=False) does."
    return None

"""Sizes of memory as people write them."""

UNITS = {"MB": 1e6, "GB": 1e9, "MiB": 2.0**20, "GiB": 2.0**30}


def size_of(text: str) -> float:
    """A size such as 8GB or 500MB, in bytes.

    Raises:
        ValueError: If it is no such size, or not above 0.
    """
    number = text.rstrip("MGiB")
    unit = UNITS.get(text[len(number) :].strip())
    try:
        found = float(number) * (unit or 0.0)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise ValueError(f"{text!r} is not a size such as 8GB or 500MB")
    return found

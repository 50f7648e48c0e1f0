"""Durations and sizes as people write them. Pure; used for the YAML file, for `@handler(time_limit="30s")` and by jqctl."""

import re

DURATION_EXPECTED = "a duration such as 10ms, 30s, 5m, 2h, 7d, or a number of seconds"
SIZE_EXPECTED = "a size such as 512MB or 1GiB, or a number of bytes"

_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([A-Za-z]*)", re.ASCII)


def duration(value: str | int | float) -> float:
    """Seconds in `value`, a number of seconds or text such as `1.5h`. Raises ValueError."""
    if isinstance(value, bool):
        raise ValueError(f"expected {DURATION_EXPECTED}")
    if isinstance(value, int | float):
        return _finite(float(value))
    match = _QUANTITY.fullmatch(value.strip())
    if match is None or match[2] not in _SECONDS:
        raise ValueError(f"expected {DURATION_EXPECTED}")
    return _finite(float(match[1]) * _SECONDS[match[2]])


def size(value: str | int) -> int:
    """Bytes in `value`, a number of bytes or text such as `1GiB` (2**30) or `1GB` (10**9). Raises ValueError."""
    if isinstance(value, bool):
        raise ValueError(f"expected {SIZE_EXPECTED}")
    if isinstance(value, int):
        return value
    match = _QUANTITY.fullmatch(value.strip())
    if match is None or match[2].upper() not in _BYTES:
        raise ValueError(f"expected {SIZE_EXPECTED}")
    return int(_finite(float(match[1]) * _BYTES[match[2].upper()]))


def _finite(number: float) -> float:
    if not 0 <= number < 1e18:
        raise ValueError(f"expected {DURATION_EXPECTED}" if number < 0 else "expected a number that is not endless")
    return number

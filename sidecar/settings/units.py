"""Durations, sizes and rates as people write them: ``100ms``, ``64KiB``, ``20%``.

Each ``parse_`` raises :class:`ValueError` with what was expected and what came; each ``format_`` writes the
shortest spelling that parses back to the same value.
"""

from __future__ import annotations

import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
    "tib": 1024**4,
}

# Fifteen digits keep every value exact in a float; the bound also keeps the conversion cheap.
# Compiled when first used: the running process imports this module and seldom parses anything.
_QUANTITY = r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([A-Za-z%]*)"
_ECHO_LIMIT = 40


def quote(text: str) -> str:
    """``text`` in quotes, escaped and cut to a length that an error message can carry."""
    return repr(text if len(text) <= _ECHO_LIMIT else text[:_ECHO_LIMIT] + "…")


def parse_duration(text: str) -> float:
    """Seconds from a number with one of the units ms, s, m, h, d.

    Raises:
        ValueError: ``text`` is not such a number. A bare number is refused, since nothing says whether
            seconds or milliseconds were meant.
    """
    number, unit = _quantity(text, "a duration such as 100ms, 30s or 24h")
    if not unit:
        raise ValueError(f"a duration needs a unit: did you mean {number}s or {number}ms?")
    scale = _SECONDS.get(unit)
    if scale is None:
        raise ValueError(f"unknown unit {quote(unit)} in {quote(text)}: use ms, s, m, h or d")
    # Multiplying by 0.001 would leave 100ms at 0.1 but 3ms at 0.003000…1; dividing is exact enough to print.
    return float(number) / 1000 if unit == "ms" else float(number) * scale


def parse_size(text: str) -> int:
    """Bytes from a number with one of the units B, KiB, MiB, GiB, TiB, KB, MB, GB; bytes without one.

    Raises:
        ValueError: ``text`` is not such a number, or not a whole number of bytes.
    """
    number, unit = _quantity(text, "a size such as 64KiB or 1MiB")
    scale = _BYTES.get(unit.lower())
    if scale is None:
        raise ValueError(f"unknown unit {quote(unit)} in {quote(text)}: use B, KiB, MiB or GiB")
    size = float(number) * scale if "." in number else int(number) * scale
    if size != int(size):
        raise ValueError(f"{quote(text)} is not a whole number of bytes")
    return int(size)


def parse_rate(text: str) -> float:
    """A share between 0 and 1 from ``20%`` or ``0.2``.

    Raises:
        ValueError: ``text`` is neither, or outside 0 to 1.
    """
    number, unit = _quantity(text, "a rate such as 20% or 0.2")
    if unit not in {"", "%"}:
        raise ValueError(f"unknown unit {quote(unit)} in {quote(text)}: write 20% or 0.2")
    rate = float(number) / 100 if unit else float(number)
    if rate > 1:
        hint = f": did you mean {number}%?" if not unit and rate <= 100 else ""  # noqa: PLR2004 - per cent
        raise ValueError(f"a rate lies between 0 and 1 (0% and 100%), got {text.strip()}{hint}")
    return rate


def format_duration(seconds: float) -> str:
    """The duration in its largest unit that needs no fraction, down to milliseconds."""
    milliseconds = round(seconds * 1000)
    for unit, scale in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        # A day and an hour are clearer as hours and minutes until there are several of them.
        if milliseconds >= scale * (2 if unit in {"d", "m"} else 1) and milliseconds % scale == 0:
            return f"{milliseconds // scale}{unit}"
    return f"{milliseconds}ms"


def format_size(size: int) -> str:
    """The size in its largest binary unit that needs no fraction."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        scale = _BYTES[unit.lower()]
        if size >= scale and size % scale == 0:
            return f"{size // scale}{unit}"
    return f"{size}B"


def format_rate(rate: float) -> str:
    """The rate in per cent."""
    return f"{rate * 100:.6g}%"


def _quantity(text: str, expected: str) -> tuple[str, str]:
    match = re.fullmatch(_QUANTITY, text.strip(" \t"))
    if match is None:
        raise ValueError(f"expected {expected}, got {quote(text)}")
    return match[1], match[2]

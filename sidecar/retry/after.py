"""The ``Retry-After`` field of a response (RFC 9110, section 10.2.3)."""

from __future__ import annotations

from email.utils import mktime_tz, parsedate_tz

_MOST_DIGITS = 9


def parse_retry_after(value: bytes, wall: float) -> float | None:
    """Seconds that the upstream asks to wait, not negative; ``None`` if the value makes no sense.

    Args:
        value: A number of seconds, or an HTTP-date in any of its three forms.
        wall: The present, in seconds since the Unix epoch.
    """
    text = value.strip(b" \t")
    if text.isdigit():
        return float(text[:_MOST_DIGITS])
    date = parsedate_tz(text.decode("latin-1"))
    if date is None:
        return None
    try:
        return max(0.0, mktime_tz(date) - wall)
    except (ValueError, OverflowError):  # the 99th of some month
        return None

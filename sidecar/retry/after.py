"""The ``Retry-After`` field of a response (RFC 9110, section 10.2.3)."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

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
    try:
        date = parsedate_to_datetime(text.decode("latin-1"))
    except (ValueError, OverflowError):  # no date, or one with hours beyond any clock
        return None
    if date.tzinfo is None:  # the form of asctime(), which is UTC as well
        date = date.replace(tzinfo=UTC)
    return max(0.0, date.timestamp() - wall)

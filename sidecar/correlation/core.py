"""Correlation ids: taken from the client where they are well formed, made fresh where not.

The grammar is narrow on purpose: what passes it can stand in a header, a log line, a span, a Redis value and
an SQL parameter without any escaping.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.ids import uuid7_octets

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_LENGTH: Final = 100

_ALLOWED: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-"


def is_valid(value: bytes) -> bool:
    """Whether ``value`` is ``[A-Za-z0-9._:-]{1,100}``."""
    return 0 < len(value) <= MAX_LENGTH and not value.translate(None, _ALLOWED)


def choose(values: Sequence[bytes], *, trust: bool = True) -> bytes:
    """The id of a request, for ``X-Correlation-ID`` and ``X-Request-ID`` alike.

    Args:
        values: The values of the request's field, one per line, without the white space around them.
        trust: Whether the client's id counts at all (``correlation.inbound: trust``).

    Returns:
        The client's id if there is exactly one and it is valid, else a fresh UUIDv7.
    """
    if trust and len(values) == 1 and is_valid(values[0]):
        return values[0]
    return uuid7_octets()

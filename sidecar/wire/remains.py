"""What can be understood of a request that was refused before its head was taken apart.

The refusal is a better answer when it carries the client's correlation id and the form that ``Accept`` asks
for, and its log line when it names the request. Nothing here is trusted any further: such a request is never
passed on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from sidecar.wire import grammar
from sidecar.wire.fields import field_values

if TYPE_CHECKING:
    from sidecar.wire.head import Limits

_FIRST_LINE: Final = re.compile(rb"(" + grammar.TOKEN + rb") ([!-~]++) HTTP/[0-9.]++")


class Remains(NamedTuple):
    """The readable parts of a refused request.

    Attributes:
        method: As sent, or nothing.
        target: As sent, or nothing.
        lines: What stands where field lines belong; any of them may be malformed.
    """

    method: bytes = b""
    target: bytes = b""
    lines: tuple[bytes, ...] = ()

    def values(self, name: bytes) -> list[bytes]:
        """All values of the field ``name`` (lower case), in order, without surrounding white space."""
        return field_values(self.lines, name)


def remains(raw: bytes, limits: Limits) -> Remains:
    """What there is in ``raw``: the octets of the head, whole or not, and perhaps some behind it.

    No more of it is looked at than a good head may have.
    """
    head, end, _ = raw[: limits.header_bytes].lstrip(b"\r\n").partition(b"\r\n\r\n")
    first, _, block = head.partition(b"\r\n")
    if not end:
        block = block.rpartition(b"\r\n")[0]  # the last line may have been cut off in the middle of its value
    match = _FIRST_LINE.fullmatch(first) if len(first) <= limits.request_line else None
    method, target = match.groups() if match is not None else (b"", b"")
    return Remains(method, target, tuple(block.split(b"\r\n")))

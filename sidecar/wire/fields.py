"""Field lines: which ones mean something to the sidecar, and which are passed on as they came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NOTED: Final = True
"""The field's value is looked at, and its line is passed on as it came."""
REMOVED: Final = False
"""The field's value is looked at, and its line is not passed on: it is hop-by-hop, or written anew."""

REQUEST_FIELDS: Final[Mapping[bytes, bool]] = {
    b"connection": REMOVED,
    b"keep-alive": REMOVED,
    b"proxy-connection": REMOVED,
    b"proxy-authorization": REMOVED,
    b"te": REMOVED,
    b"transfer-encoding": REMOVED,
    b"upgrade": REMOVED,
    b"content-length": REMOVED,
    b"host": REMOVED,
    b"expect": REMOVED,
    b"via": REMOVED,
    b"x-forwarded-for": REMOVED,
    b"x-forwarded-proto": NOTED,
    b"x-forwarded-host": NOTED,
    b"x-request-id": REMOVED,
    b"x-request-timeout-ms": REMOVED,
    b"traceparent": REMOVED,
    b"tracestate": REMOVED,
    b"baggage": REMOVED,
    b"http2-settings": REMOVED,
    b"idempotency-key": NOTED,
}
RESPONSE_FIELDS: Final[Mapping[bytes, bool]] = {
    b"connection": REMOVED,
    b"keep-alive": REMOVED,
    b"proxy-connection": REMOVED,
    b"te": REMOVED,
    b"transfer-encoding": REMOVED,
    b"upgrade": REMOVED,
    b"content-length": REMOVED,
    b"content-type": NOTED,
    b"date": NOTED,
    b"retry-after": NOTED,
    b"x-request-id": REMOVED,
    # Only the sidecar itself may say these things; an upstream's own would be taken for ours.
    b"x-sidecar-reason": REMOVED,
    b"x-idempotent-replayed": REMOVED,
    b"x-idempotent-original-correlation-id": REMOVED,
    b"x-idempotency-status": REMOVED,
    b"x-dead-letter-id": REMOVED,
}

_NEVER_NOMINATED = frozenset((b"close", b"keep-alive", b"upgrade", b"te", b""))

# What frames and routes a message is not the client's to remove, and a key that only this hop is to see is
# heeded here all the same: no request that carries one runs unprotected without a word.
_HEEDED: Final = frozenset((b"host", b"content-length", b"transfer-encoding", b"idempotency-key"))

# Lines that come again and again (User-Agent, Accept, Server, …) are recognised whole, without taking them
# apart. What one connection sends is never visible to another: a line is only ever compared with itself.
_REMEMBERED_LINES: Final = 2048
_REMEMBERED_LENGTH: Final = 200
_NEVER_REMEMBERED: Final = frozenset((b"authorization", b"cookie", b"set-cookie", b"idempotency-key"))


class FieldRules:
    """Sorts the lines of a head by what they mean to the sidecar.

    Args:
        rules: :data:`NOTED` or :data:`REMOVED` by lower-case name; all other fields are passed on unseen.
    """

    __slots__ = ("_known", "_passed", "_rules")

    def __init__(self, rules: Mapping[bytes, bool]) -> None:
        self._rules = dict(rules)
        self._passed: set[bytes] = set()
        self._known: dict[bytes, tuple[bytes, bytes, bool]] = {}

    def sort(self, block: bytes, lines: list[bytes], special: dict[bytes, list[bytes]]) -> int:
        """Take ``block`` (field lines without the last CRLF) apart; how many lines there were.

        Args:
            block: The lines, valid by the grammar.
            lines: Gets those that are passed on.
            special: Gets the values of those that mean something, by lower-case name.
        """
        passed, known = self._passed, self._known
        keep = lines.append
        all_lines = block.split(b"\r\n")
        for line in all_lines:
            if line in passed:
                keep(line)
                continue
            name, value, kept = known.get(line) or self._take_apart(line)
            if kept:
                keep(line)
                if not name:
                    continue
            if name in special:
                special[name].append(value)
            else:
                special[name] = [value]
        return len(all_lines)

    def _take_apart(self, line: bytes) -> tuple[bytes, bytes, bool]:
        """The field's name if it means something, else nothing; its value; and whether it is passed on."""
        name, _, value = line.partition(b":")
        name = name.lower()
        rule = self._rules.get(name)
        found = (b"", b"", True) if rule is None else (name, value.strip(b" \t"), rule)
        if len(line) <= _REMEMBERED_LENGTH and name not in _NEVER_REMEMBERED:
            if len(self._known) + len(self._passed) >= _REMEMBERED_LINES:
                self._known.clear()
                self._passed.clear()
            if rule is None:
                self._passed.add(line)
            else:
                self._known[line] = found
        return found


def field_values(lines: Iterable[bytes], name: bytes) -> list[bytes]:
    """The values of the field ``name`` (lower case) among raw ``lines``."""
    size = len(name)
    return [
        line[size + 1 :].strip(b" \t")
        for line in lines
        if line[size : size + 1] == b":" and line[:size].lower() == name
    ]


def tokens(values: list[bytes]) -> list[bytes]:
    """The members of a comma-separated list field, in lower case (RFC 9110, section 5.6.1)."""
    return [member.strip(b" \t").lower() for value in values for member in value.split(b",")]


def remove_nominated(
    nominated: list[bytes], lines: list[bytes], special: dict[bytes, list[bytes]]
) -> list[bytes]:
    """Take out the fields that ``Connection`` names (RFC 9110, section 7.6.1)."""
    names = {name for name in nominated if name not in _NEVER_NOMINATED}
    if not names:
        return lines
    for name in names:
        if name not in _HEEDED:
            special.pop(name, None)
    return [line for line in lines if line.partition(b":")[0].lower() not in names]

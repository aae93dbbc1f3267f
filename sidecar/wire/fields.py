"""Field lines: which ones mean something to the sidecar, and which are passed on as they came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.wire import grammar

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
    b"accept": NOTED,
    b"authorization": NOTED,
    b"content-type": NOTED,
}
RESPONSE_FIELDS: Final[Mapping[bytes, bool]] = {
    b"connection": REMOVED,
    b"keep-alive": REMOVED,
    b"proxy-connection": REMOVED,
    b"te": REMOVED,
    b"transfer-encoding": REMOVED,
    b"upgrade": REMOVED,
    b"content-length": REMOVED,
    b"content-encoding": NOTED,
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

_NEVER_NOMINATED: Final = frozenset((b"close", b"keep-alive", b"upgrade", b"te", b""))

# What frames and routes a message is not the client's to remove, and a key that only this hop is to see is
# heeded here all the same: no request that carries one runs unprotected without a word.
_HEEDED: Final = frozenset((b"host", b"content-length", b"transfer-encoding", b"idempotency-key"))

_STEERING: Final = frozenset(
    (b"connection", b"upgrade", b"transfer-encoding", b"content-length", b"expect", b"te")
)
_FORWARDED: Final = frozenset(
    (b"via", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"baggage")
)
# These give a request neither id nor trace; any other field may: that of the correlation id has many names.
_ANONYMOUS: Final = frozenset((b"host", b"accept", b"content-type", b"authorization", b"idempotency-key"))
_KEY: Final = b"idempotency-key"
_KEY_LINE: Final = b"\r\nIdempotency-Key: "
_PRINTABLE: Final = bytes(range(0x20, 0x7F))

# Lines that come again and again (User-Agent, Accept, Server, …) are recognised whole, without taking them
# apart, and so are blocks of nothing but such lines. What one connection sends is never visible to another: a
# line is only ever compared with itself.
_REMEMBERED_LINES: Final = 2048
_REMEMBERED_LENGTH: Final = 200
_REMEMBERED_BLOCKS: Final = 512
_REMEMBERED_BLOCK_LENGTH: Final = 2048
# Secrets are not kept beyond their request, and what differs in every request is not worth it.
_NEVER_REMEMBERED: Final = frozenset(
    (
        *(b"authorization", b"proxy-authorization", b"cookie", b"set-cookie", b"idempotency-key"),
        *(b"traceparent", b"x-request-id", b"x-correlation-id", b"x-forwarded-for"),
    )
)


class Fields:
    """The field lines of a head, sorted. Heads that have the same lines share it: it is never changed.

    Attributes:
        lines: Those that are passed on, without line ends.
        raw: The same as octets, each with its CRLF.
        special: Values of those that mean something, by lower-case name, in order.
        count: How many lines there were.
        steers: Whether any of them frames the message or speaks of its connection.
        forwarded: Whether any of them tells of hops before this one.
        identified: Whether any of them may give the request an id or a trace.
    """

    __slots__ = ("count", "forwarded", "identified", "lines", "raw", "special", "steers")

    def __init__(
        self,
        lines: list[bytes],
        raw: bytes,
        special: dict[bytes, list[bytes]],
        count: int,
        *,
        steers: bool,
        forwarded: bool,
        identified: bool,
    ) -> None:
        self.lines = lines
        self.raw = raw
        self.special = special
        self.count = count
        self.steers = steers
        self.forwarded = forwarded
        self.identified = identified

    @staticmethod
    def of(lines: list[bytes], special: dict[bytes, list[bytes]], count: int) -> Fields:
        """The fields of a head that has these."""
        steers = forwarded = identified = False
        for name in special:
            if name in _STEERING:
                steers = True
            elif name in _FORWARDED:
                forwarded = True
            elif name not in _ANONYMOUS:
                identified = True
        raw = b"\r\n".join(lines) + b"\r\n" if lines else b""
        return Fields(lines, raw, special, count, steers=steers, forwarded=forwarded, identified=identified)

    def with_key(self, line: bytes, key: bytes) -> Fields:
        """These, which have no idempotency key, and the line of one."""
        return Fields(
            [*self.lines, line],
            b"%b%b\r\n" % (self.raw, line),
            {**self.special, _KEY: [key]},
            self.count + 1,
            steers=self.steers,
            forwarded=self.forwarded,
            identified=self.identified,
        )


NO_FIELDS: Final = Fields.of([], {}, 0)


class _Line:
    """What a field line means.

    Attributes:
        name: The field's name in lower case if it means something, else nothing.
        values: Its value, the only member.
        kept: Whether the line is passed on.
    """

    __slots__ = ("kept", "name", "values")

    def __init__(self, name: bytes, values: list[bytes], *, kept: bool) -> None:
        self.name = name
        self.values = values
        self.kept = kept


_PASSED: Final = _Line(b"", [], kept=True)


class FieldRules:
    """Sorts the lines of a head by what they mean to the sidecar.

    Args:
        rules: :data:`NOTED` or :data:`REMOVED` by lower-case name; all other fields are passed on unseen.

    Attributes:
        blocks: Blocks of field lines that have come before.
    """

    __slots__ = ("_known", "_notes_keys", "_rules", "blocks")

    def __init__(self, rules: Mapping[bytes, bool]) -> None:
        self._rules = dict(rules)
        self._notes_keys = rules.get(_KEY) is NOTED
        self._known: dict[bytes, _Line] = {}
        self.blocks: dict[bytes, Fields] = {b"": NO_FIELDS}

    def sort(self, block: bytes) -> Fields | None:
        """Take ``block`` (field lines with CRLF between them) apart; ``None`` if one breaks the grammar.

        What is new in a block is often an idempotency key alone: without its line, in the spelling of almost
        everybody, the block may be one that has come before.
        """
        if self._notes_keys:
            before, found, after = block.partition(_KEY_LINE)
            if found:
                key, end, rest = after.partition(b"\r\n")
                if not key.translate(None, _PRINTABLE):
                    others = before + end + rest
                    fields = self.blocks.get(others) or self._sort(others)
                    if fields is None:
                        return None
                    if _KEY not in fields.special:
                        return fields.with_key(_KEY_LINE[2:] + key, key.strip(b" "))
        return self._sort(block)

    def _sort(self, block: bytes) -> Fields | None:
        """Line by line: one that has come before is good; only where none is new, so is the whole block."""
        known = self._known
        lines: list[bytes] = []
        special: dict[bytes, list[bytes]] = {}
        familiar = True
        all_lines = block.split(b"\r\n")
        for text in all_lines:
            line = known.get(text)
            if line is None:
                line = self._take_apart(text)
                if line is None:
                    return None
                familiar = False
            if line.kept:
                lines.append(text)
            name = line.name
            if name:
                special[name] = special[name] + line.values if name in special else line.values
        fields = Fields.of(lines, special, len(all_lines))
        if familiar and len(block) <= _REMEMBERED_BLOCK_LENGTH:
            if len(self.blocks) >= _REMEMBERED_BLOCKS:
                self.blocks = {b"": NO_FIELDS}
            self.blocks[block] = fields
        return fields

    def _take_apart(self, text: bytes) -> _Line | None:
        """What a line that has not come before means, or ``None`` if it breaks the grammar."""
        name, colon, value = text.partition(b":")
        name = name.lower()
        rule = self._rules.get(name)
        # A name that there is a rule for is a good one; only its value has to be looked at.
        if (rule is None or not colon or value.translate(None, _PRINTABLE)) and (
            grammar.FIELD_LINE.fullmatch(text) is None
        ):
            return None
        line = _PASSED if rule is None else _Line(name, [value.strip(b" \t")], kept=rule)
        if len(text) <= _REMEMBERED_LENGTH and name not in _NEVER_REMEMBERED:
            if len(self._known) >= _REMEMBERED_LINES:
                self._known.clear()
            self._known[text] = line
        return line


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


def without_nominated(nominated: list[bytes], fields: Fields) -> Fields:
    """``fields`` without those that ``Connection`` names (RFC 9110, section 7.6.1)."""
    names = {name for name in nominated if name not in _NEVER_NOMINATED}
    if not names:
        return fields
    lines = [line for line in fields.lines if line.partition(b":")[0].lower() not in names]
    names -= _HEEDED
    special = {name: values for name, values in fields.special.items() if name not in names}
    return Fields.of(lines, special, fields.count)

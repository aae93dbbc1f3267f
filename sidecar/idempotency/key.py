"""The syntax of ``Idempotency-Key``."""

from __future__ import annotations

from hashlib import sha256
from struct import Struct
from typing import TYPE_CHECKING, Final

from sidecar.errors import IdempotencyKeyInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_KEY_LENGTH: Final = 255

_LENGTH: Final = Struct(">I")
_NONE: Final = _LENGTH.pack(0)

_VISIBLE: Final = range(0x21, 0x7F)
# A bare key is more than an RFC 8941 token may be (clients send UUIDs that begin with a digit, and base64),
# but nothing that could be read as a list, as parameters or as a broken string.
_BARE: Final = bytes(octet for octet in _VISIBLE if octet not in b'",;\\')
# RFC 8941, section 3.3.3: unescaped = %x20-21 / %x23-5B / %x5D-7E
_UNESCAPED: Final = bytes(octet for octet in range(0x20, 0x7F) if octet not in b'"\\')
_ESCAPABLE: Final = b'"\\'


def parse_key(values: Sequence[bytes]) -> bytes:
    r"""Read the one key that the field lines ``values`` hold.

    A key is bare (visible ASCII without ``" , ; \``) or an RFC 8941 string; ``"k"`` and ``k`` are the same
    key. It has 1 to 255 characters, counted without quotes and escapes.

    Raises:
        IdempotencyKeyInvalid: Anything else. The message never repeats the key.
    """
    if len(values) != 1:
        raise _invalid(f"expected one Idempotency-Key field, found {len(values)}")
    value = values[0]
    if 1 <= len(value) <= MAX_KEY_LENGTH and not value.translate(None, _BARE):
        return value  # almost every key there is
    value = value.strip(b" \t")
    if value.startswith(b'"'):
        key = _read_string(value)
    else:
        key = value
        if value.translate(None, _BARE):
            raise _invalid(
                'a bare Idempotency-Key holds visible ASCII without " , ; \\ only; quote anything else'
            )
    if not 1 <= len(key) <= MAX_KEY_LENGTH:
        raise _invalid(f"an Idempotency-Key has 1 to {MAX_KEY_LENGTH} characters, this one has {len(key)}")
    return key


def record_id(namespace: bytes, caller: Sequence[Sequence[bytes]], key: bytes) -> str:
    """See :meth:`RoutePolicy.record_id`.

    What is hashed: ``namespace``, which says where it ends; for each header the number of its values, and
    each of them with its length; the key. Numbers have four octets.
    """
    parts = [namespace]
    for values in caller:
        parts.append(_LENGTH.pack(len(values)) if values else _NONE)
        for value in values:
            parts.append(_LENGTH.pack(len(value)))
            parts.append(value)
    parts.append(key)
    return sha256(b"".join(parts)).hexdigest()


def _read_string(value: bytes) -> bytes:
    """The content of an RFC 8941 string (section 4.2.5); parameters after it are not accepted."""
    if len(value) >= 2 and value.endswith(b'"'):  # noqa: PLR2004 - two quotes
        inner = value[1:-1]
        if not inner.translate(None, _UNESCAPED):
            return inner
    return _unescape(value)


def _unescape(value: bytes) -> bytes:
    """Walk a string that holds escapes, or find out what is wrong with it."""
    key = bytearray()
    position = 1
    while position < len(value):
        octet = value[position : position + 1]
        position += 1
        if octet == b'"':
            if position != len(value):
                raise _invalid("nothing may follow the closing quote of an Idempotency-Key")
            return bytes(key)
        if octet == b"\\":
            octet = value[position : position + 1]
            position += 1
            if not octet or octet not in _ESCAPABLE:
                raise _invalid(r"in an Idempotency-Key a backslash escapes only \" and \\")
        elif octet not in _UNESCAPED:
            raise _invalid("a quoted Idempotency-Key holds printable ASCII only")
        key += octet
    raise _invalid("the closing quote of the Idempotency-Key is missing")


def _invalid(message: str) -> IdempotencyKeyInvalid:
    return IdempotencyKeyInvalid(message, reason="invalid")

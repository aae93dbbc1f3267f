"""A captured body on its way to a document: content codings are undone, within a bound."""

from __future__ import annotations

import zlib

CAPTURE_LIMIT = 1024 * 1024
"""Bytes of a body that are kept for the audit trail at most, as sent; what is longer is not captured."""

_DECODED_LIMIT = 8 * CAPTURE_LIMIT
_GZIP, _ZLIB, _DEFLATE = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


class EncodingError(ValueError):
    """The body's content coding is unknown here, or the body is not what it says."""


class TooLargeError(ValueError):
    """The body is longer than can be kept."""


def decode_body(body: bytes, coding: bytes | None) -> bytes:
    """``body`` without its content coding (RFC 9110, section 8.4): ``identity``, ``gzip`` or ``deflate``.

    Raises:
        EncodingError: Another coding, several, or damaged data.
        TooLargeError: More than 8 MiB would come out.
    """
    name = (coding or b"identity").strip(b" \t").lower()
    if name == b"identity" or not body:
        return body
    if name in {b"gzip", b"x-gzip"}:
        return _inflate(body, _GZIP)
    if name == b"deflate":
        # RFC 9110 means the zlib format (RFC 1950); its first octet gives away those who send bare deflate
        # data.
        return _inflate(body, _ZLIB if body[0] & 0x0F == zlib.DEFLATED else _DEFLATE)
    raise EncodingError(f"content coding {name.decode('latin-1')!r}: only gzip and deflate can be read")


def _inflate(body: bytes, window: int) -> bytes:
    inflater = zlib.decompressobj(window)
    try:
        plain = inflater.decompress(body, _DECODED_LIMIT)
    except zlib.error as error:
        raise EncodingError(str(error)) from error
    if inflater.unconsumed_tail:
        raise TooLargeError(f"the body decodes to more than {_DECODED_LIMIT} bytes")
    if not inflater.eof:
        raise EncodingError("the compressed body ends early")
    return plain

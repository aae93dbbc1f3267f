from __future__ import annotations

import gzip
import zlib

import pytest

from sidecar.audit.body import EncodingError, TooLargeError, decode_body

PLAIN = b'{"id": "0190a0b0-0000-7000-8000-000000000000"}' * 10


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (PLAIN, None),
        (PLAIN, b"identity"),
        (gzip.compress(PLAIN, mtime=0), b"gzip"),
        (gzip.compress(PLAIN, mtime=0), b" X-GZip\t"),
        (zlib.compress(PLAIN), b"deflate"),
        (raw_deflate(PLAIN), b"deflate"),
    ],
)
def test_codings_are_undone(body, coding):
    assert decode_body(body, coding) == PLAIN


def test_an_empty_body_is_empty_in_every_coding():
    assert decode_body(b"", b"gzip") == b""


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (PLAIN, b"br"),
        (PLAIN, b"gzip, gzip"),
        (PLAIN, b"gzip"),
        (gzip.compress(PLAIN, mtime=0)[:-12], b"gzip"),
        (b"\x78\x9c", b"deflate"),
    ],
)
def test_what_cannot_be_read(body, coding):
    with pytest.raises(EncodingError):
        decode_body(body, coding)


def test_a_bomb_is_not_unpacked():
    with pytest.raises(TooLargeError):
        decode_body(gzip.compress(bytes(20_000_000)), b"gzip")

"""What a vector of octets is: what one side sends, and what must come of it.

``rfc`` names the rule that decides, so that a failing vector leads to the sentence it was made from. The
tables stand in files by topic beside this one; ``test_requests.py`` and ``test_answers.py`` play them against
the real process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.messages import Framing
    from tests.support.upstream import Script


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A request of which not one octet may reach the upstream.

    Attributes:
        sent: The octets; a tuple is sent piece by piece.
        status: The answer, or several where the rule leaves a choice. The connection is closed after it.
        in_body: The fault lies behind the head: sent octet by octet, the head could already be on its way.
        after: How many good requests come before it on the connection and must be answered first.
    """

    name: str
    rfc: str
    sent: bytes | tuple[bytes, ...]
    status: int | tuple[int, ...] = 400
    in_body: bool = False
    after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarded:
    """A request that must pass.

    Attributes:
        sent: The octets; a tuple is sent piece by piece.
        line: The request line that the upstream must read.
        fields: Field lines that the upstream must read, each name exactly as often as it stands here.
        absent: Names that the upstream must not read.
        framing: How the body must be framed for the upstream.
        body: The body that the upstream must read.
        trailers: All trailer field lines that the upstream must read, and no others.
        persistent: Whether the connection must stay open for another request.
    """

    name: str
    rfc: str
    sent: bytes | tuple[bytes, ...]
    line: bytes = b"GET / HTTP/1.1"
    fields: tuple[bytes, ...] = ()
    absent: tuple[str, ...] = ()
    framing: Framing = "none"
    body: bytes = b""
    trailers: tuple[bytes, ...] = ()
    persistent: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What an upstream does, and what the client must see of it.

    Attributes:
        request: The client's request.
        script: What the upstream does once it has read the request.
        status: What the client must get, or several where the rule leaves a choice; 502 is the sidecar's own.
        interim: The 1xx answers that the client must get before it; ``None`` where the rule leaves a choice.
        fields: Field lines that the client must get, each name exactly as often as it stands here.
        absent: Names that the client must not get.
        body: The body that the client must get, unless ``None``.
        trailers: All trailer field lines that the client must get.
        broken: The client must see the answer break off, never end cleanly; where nothing of it has been
            passed on yet, a 502 does as well. ``status`` says nothing then.
        reused: Whether the upstream's connection may serve another request; if not, the sidecar closes it.
    """

    name: str
    rfc: str
    script: Script
    request: bytes = b"GET /answer HTTP/1.1\r\nHost: test\r\n\r\n"
    status: int | tuple[int, ...] = 200
    interim: tuple[int, ...] | None = ()
    fields: tuple[bytes, ...] = ()
    absent: tuple[str, ...] = ()
    body: bytes | None = None
    trailers: tuple[bytes, ...] = ()
    broken: bool = False
    reused: bool = True


def head(*lines: bytes) -> bytes:
    """A head: each line and the empty one, ended by CRLF."""
    return b"\r\n".join([*lines, b"", b""])


def get(*fields: bytes, target: bytes = b"/", host: bytes = b"test") -> bytes:
    """A GET request with further field lines."""
    return head(b"GET " + target + b" HTTP/1.1", b"Host: " + host, *fields)


def post(*fields: bytes, body: bytes = b"", target: bytes = b"/") -> bytes:
    """A POST request with further field lines, which must frame the body."""
    return head(b"POST " + target + b" HTTP/1.1", b"Host: test", *fields) + body


def chunked(body: bytes, *fields: bytes) -> bytes:
    """A POST request with a chunked body, given as it goes over the wire."""
    return post(b"Transfer-Encoding: chunked", *fields, body=body)


def one_of(status: int | tuple[int, ...]) -> tuple[int, ...]:
    """The statuses that a vector allows."""
    return (status,) if isinstance(status, int) else status


def parametrize(*tables: Iterable[Any]) -> pytest.MarkDecorator:
    """Run a test once for every vector, with its name as id."""
    vectors = [vector for table in tables for vector in table]
    names = [vector.name for vector in vectors]
    assert len(set(names)) == len(names), f"two vectors have one name: {sorted(names)}"
    return pytest.mark.parametrize("vector", vectors, ids=[name.replace(" ", "-") for name in names])


def whole(sent: bytes | tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The pieces that a vector is sent in."""
    return (sent,) if isinstance(sent, bytes) else sent


def octets(sent: bytes | tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The same, one octet at a time."""
    joined = b"".join(whole(sent))
    return tuple(joined[place : place + 1] for place in range(len(joined)))

"""Plays the tables of requests against the real process."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.conformance import request_chunks, request_control, request_fields, request_framing, request_line
from tests.conformance.conftest import CODES, Rig
from tests.conformance.vectors import Forwarded, Refused, octets, one_of, parametrize, whole
from tests.support.raw import error_of

if TYPE_CHECKING:
    from tests.support.messages import Request, Response
    from tests.support.raw import Client

REFUSED = [
    *request_line.REFUSED,
    *request_fields.FIELDS_REFUSED,
    *request_fields.HOSTS_REFUSED,
    *request_framing.LENGTHS_REFUSED,
    *request_framing.CODINGS_REFUSED,
    *request_chunks.REFUSED,
]
FORWARDED = [
    *request_line.FORWARDED,
    *request_fields.FORWARDED,
    *request_framing.FORWARDED,
    *request_chunks.FORWARDED,
    *request_control.HOP_BY_HOP,
    *request_control.NOMINATED,
    *request_control.FORWARDING,
    *request_control.CORRELATION,
]
SHORT = 2000  # octets; a longer vector would take long to send one by one, and show nothing more


def _is_short(vector: Refused | Forwarded) -> bool:
    return sum(map(len, whole(vector.sent))) <= SHORT


def _may_be_forwarded_in_part(vector: Refused) -> bool:
    """A long body takes several reads: its head may be on its way when the mistake arrives."""
    return vector.in_body and not _is_short(vector)


@parametrize(vector for vector in REFUSED if not _may_be_forwarded_in_part(vector))
def test_refused_before_anything_is_forwarded(rig, vector):
    _assert_refused(rig, vector, whole(vector.sent))


@parametrize(vector for vector in REFUSED if _is_short(vector) and not vector.in_body)
def test_refused_when_it_comes_octet_by_octet(rig, vector):
    _assert_refused(rig, vector, octets(vector.sent))


def _assert_refused(rig: Rig, vector: Refused, pieces: tuple[bytes, ...]) -> None:
    mark, start = rig.upstream.mark(), len(rig.sidecar.process.stdout)
    with rig.client() as client:
        client.send(*pieces)
        for _ in range(vector.after):
            assert client.response().status == 200
        response = _assert_refusal(client, vector)
    rig.assert_nothing_reached_upstream(mark, before=vector.after)
    rig.assert_one_log_line(response, start)


def _assert_refusal(client: Client, vector: Refused) -> Response:
    """The answer that the rule allows, which says what it is, and is the connection's last."""
    response = client.response()
    assert response.status in one_of(vector.status), response
    assert error_of(response)["code"] == CODES[response.status]
    assert response["connection"] == b"close"
    client.end()
    return response


@parametrize(vector for vector in REFUSED if _is_short(vector) and vector.in_body)
def test_a_bad_body_octet_by_octet_never_becomes_a_whole_request(rig, vector):
    _assert_never_whole(rig, vector, octets(vector.sent))


@parametrize(vector for vector in REFUSED if _may_be_forwarded_in_part(vector))
def test_a_long_bad_body_never_becomes_a_whole_request(rig, vector):
    _assert_never_whole(rig, vector, whole(vector.sent))


def _assert_never_whole(rig: Rig, vector: Refused, pieces: tuple[bytes, ...]) -> None:
    seen, start = rig.record(), len(rig.sidecar.process.stdout)
    with rig.client() as client:
        client.send(*pieces)
        response = _assert_refusal(client, vector)
    rig.sentinel()
    assert [it.target for it in seen] == [b"/sentinel/%d" % rig.sentinels]
    rig.assert_one_log_line(response, start)


@parametrize(FORWARDED)
def test_forwarded(rig, vector):
    _assert_forwarded(rig, vector, whole(vector.sent))


@parametrize(vector for vector in FORWARDED if _is_short(vector))
def test_forwarded_when_it_comes_octet_by_octet(rig, vector):
    _assert_forwarded(rig, vector, octets(vector.sent))


def _assert_forwarded(rig: Rig, vector: Forwarded, pieces: tuple[bytes, ...]) -> None:
    seen = rig.record()
    with rig.client() as client:
        client.send(*pieces)
        response = client.response()
        assert (response.status, response.body) == (200, b"ok"), response
        assert "transfer-encoding" not in response
        if vector.persistent:
            assert client.request("GET", "/again").status == 200
        else:
            assert client.end() == "closed"
    request = seen[0]
    assert request.start == vector.line
    _assert_fields(request, vector)
    _assert_house_rules(request)
    assert request.body == vector.body
    expected = (vector.framing, "length") if vector.framing == "none" else (vector.framing,)
    assert request.framing in expected
    assert request.trailers == [_split(line) for line in vector.trailers]


def _split(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.lower(), value.strip(b" \t")


def _assert_fields(request: Request, vector: Forwarded) -> None:
    expected: dict[bytes, list[bytes]] = {}
    for line in vector.fields:
        name, value = _split(line)
        expected.setdefault(name, []).append(value)
    assert {name: request.values(name) for name in expected} == expected
    assert [name for name in vector.absent if name in request] == []


def _assert_house_rules(request: Request) -> None:
    """What holds for every request that the sidecar sends."""
    assert request["x-forwarded-for"].rpartition(b" ")[2] == b"127.0.0.1"
    assert re.fullmatch(rb"(.+, )?1\.[01] [!-~]+( \(.*\))?", request["via"])
    assert re.fullmatch(rb"[A-Za-z0-9._:-]{1,100}", request["x-correlation-id"])
    assert re.fullmatch(rb"[A-Za-z0-9._:-]{1,100}", request["x-request-id"])
    assert 0 < int(request["x-request-timeout-ms"]) <= 30_000
    assert re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", request["traceparent"])


@pytest.mark.parametrize("table", [REFUSED, FORWARDED], ids=["refused", "forwarded"])
def test_every_vector_names_its_rule(table):
    nameless = [
        it.name for it in table if not re.fullmatch(r"(RFC \d+|the contract), section [\d.]+", it.rfc)
    ]
    assert nameless == []

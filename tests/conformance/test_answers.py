"""Plays the tables of upstreams' answers against the real process."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.conformance import answer_body, answer_head, answer_interim
from tests.conformance.vectors import Answered, one_of, parametrize
from tests.support.messages import Broken, Ended, Response
from tests.support.raw import error_of
from tests.support.upstream import Reply

if TYPE_CHECKING:
    from tests.conformance.conftest import Rig

ANSWERS = [
    *answer_head.MALFORMED,
    *answer_head.BROKEN_OFF,
    *answer_head.GOOD,
    *answer_body.FRAMING_REFUSED,
    *answer_body.SURPLUS,
    *answer_body.GOOD,
    *answer_interim.GOOD,
    *answer_interim.REFUSED,
]
BROKEN = [*answer_body.CHUNKS_REFUSED, *answer_body.TRUNCATED]
BAD_GATEWAY = ("UPSTREAM_PROTOCOL_ERROR", "UPSTREAM_UNREACHABLE")


@parametrize(ANSWERS)
def test_answer(rig, vector):
    rig.answer_with(Reply(vector.script))
    method = vector.request.partition(b" ")[0].decode()
    with rig.client() as client:
        client.send(vector.request)
        response = client.response(method)
        assert response.status in one_of(vector.status), response
        if response.status == 502 and method != "HEAD":
            assert error_of(response)["code"] in BAD_GATEWAY
        else:
            _assert_as_expected(response, vector)
        assert re.fullmatch(rb"[A-Za-z0-9._:-]+", response["x-correlation-id"])
        assert re.fullmatch(rb"[A-Za-z0-9._:-]+", response["x-request-id"])
        assert (
            len(response.values("date")) == 1
        )  # whoever forwards adds a missing one: RFC 9110, section 6.6.1
        if b"HTTP/1.0\r\n" not in vector.request and b"close" not in response.values("connection"):
            assert client.request("GET", "/again").status == 200
    _assert_upstream_connection(rig, vector)


@parametrize(BROKEN)
def test_a_broken_answer_breaks_the_clients_connection(rig, vector):
    rig.answer_with(Reply(vector.script))
    with rig.client() as client:
        client.send(vector.request)
        try:
            response = client.response()
        except (Ended, Broken):
            assert client.reader.raw == b"" or client.reader.raw.startswith(b"HTTP/1.1 200 ")
        else:
            assert response.status == 502, f"ended cleanly: {response}"
            assert error_of(response)["code"] in BAD_GATEWAY
    _assert_upstream_connection(rig, vector)


def _assert_as_expected(response: Response, vector: Answered) -> None:
    if vector.interim is not None:
        assert tuple(it.status for it in response.interim) == vector.interim
    if vector.body is not None:
        assert response.body == vector.body
    for line in vector.fields:
        name = line.partition(b":")[0].lower()
        wanted = [it.partition(b":")[2].strip() for it in vector.fields if it.lower().startswith(name + b":")]
        assert response.values(name) == wanted
    assert [name for name in vector.absent if name in response] == []
    assert response.trailers == [tuple(line.split(b": ")) for line in vector.trailers]


def _assert_upstream_connection(rig: Rig, vector: Answered) -> None:
    connection = rig.used_connection()
    used = len(connection.requests)
    if not vector.reused:
        connection.wait_end()
    rig.sentinel()
    assert vector.reused or len(connection.requests) == used


@pytest.mark.parametrize("table", [ANSWERS, BROKEN], ids=["answers", "broken"])
def test_every_vector_names_its_rule(table):
    assert [it.name for it in table if not re.fullmatch(r"RFC \d+, section [\d.]+", it.rfc)] == []

from __future__ import annotations

import asyncio
import json
from unittest.mock import Mock

import pytest
from aiohttp import StreamReader
from aiohttp.test_utils import make_mocked_request

from sidecar.admin import reading
from sidecar.admin.reading import LONGEST_REASON, Members, query_of, read_body, read_object, whole_number
from sidecar.errors import BadRequest, BodyTooLarge, RequestTimeout


def request(body=b"", path="/", *, whole=True):
    stream = StreamReader(Mock(), 2**16, loop=asyncio.get_running_loop())  # nothing is received
    if body:
        stream.feed_data(body)
    if whole:
        stream.feed_eof()
    return make_mocked_request("POST", path, payload=stream)


async def test_members_are_taken_one_by_one():
    members = await read_object(
        request(b'{"mode": "auto", "limit": 3, "dry": true, "more": {"a": 1}, "none": null}')
    )
    assert members.take("mode", str) == "auto"
    assert members.take("limit", int) == 3
    assert members.take("dry", bool) is True
    assert members.take("more", dict) == {"a": 1}
    assert members.take("none", str, "-") == "-"
    assert members.take("absent", int, 7) == 7
    members.nothing_else()


async def test_no_body_is_an_empty_object():
    members = await read_object(request())
    assert members.reason() == ""
    members.nothing_else()


@pytest.mark.parametrize("body", [b"{", b"[]", b"3", b'"text"', b"\xff", b"[" * 5000])
async def test_what_is_no_object_is_refused(body):
    with pytest.raises(BadRequest):
        await read_object(request(body))


@pytest.mark.parametrize(
    ("content", "kind"),
    [({}, str), ({"x": 1}, str), ({"x": "1"}, int), ({"x": True}, int), ({"x": 1}, bool), ({"x": []}, dict)],
)
def test_a_member_of_another_kind_is_refused(content, kind):
    with pytest.raises(BadRequest, match="x"):
        Members(content).take("x", kind)


def test_what_nobody_takes_is_a_mistake():
    with pytest.raises(BadRequest, match="unknown members: force, now"):
        Members({"now": 1, "force": True}).nothing_else()


def test_reasons_are_bounded():
    assert Members({"reason": " checked with the bank "}).reason() == "checked with the bank"
    with pytest.raises(BadRequest, match="500 characters"):
        Members({"reason": "x" * (LONGEST_REASON + 1)}).reason()


async def test_bodies_are_bounded_in_size_and_time(monkeypatch):
    assert await read_body(request(b"x" * 100), 100) == b"x" * 100
    with pytest.raises(BodyTooLarge):
        await read_body(request(b"x" * 101), 100)
    monkeypatch.setattr(reading, "_BODY_SECONDS", 0.0)
    with pytest.raises(RequestTimeout):
        await read_body(request(json.dumps({}).encode(), whole=False))


async def test_queries_hold_what_is_known_once():
    assert query_of(request(path="/?state=UNKNOWN&route="), "state", "route") == {"state": "UNKNOWN"}
    with pytest.raises(BadRequest, match="unknown parameter 'stat'"):
        query_of(request(path="/?stat=x"), "state")
    with pytest.raises(BadRequest, match="more than once"):
        query_of(request(path="/?state=a&state=b"), "state")


@pytest.mark.parametrize("text", ["", "0", "1001", "-1", "1.0", " 1", "\u0661", "9" * 5000])
def test_numbers_are_in_their_range(text):
    assert whole_number("1000", "limit", 1, 1000) == 1000
    with pytest.raises(BadRequest, match="limit is a number from 1 to 1000"):
        whole_number(text, "limit", 1, 1000)

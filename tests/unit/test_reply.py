import json

import pytest

from sidecar.errors import BulkheadFull, CircuitOpen, NoRoute
from sidecar.reply import FrequentReply, error_reply


def reply(*accept, error=None):
    head, body = error_reply(
        error or NoRoute("no route matches"), accept=list(accept), correlation_id=b"c-1", added=b"X-A: b\r\n"
    )
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    fields = dict(line.split(b": ", 1) for line in lines)
    assert fields[b"Content-Length"] == b"%d" % len(body)
    return first, fields, json.loads(body)


def test_the_form_of_the_seed():
    first, fields, body = reply()
    assert first == b"HTTP/1.1 404 Not Found"
    assert fields[b"Content-Type"] == b"application/json"
    assert fields[b"X-Sidecar-Reason"] == b"no_route"
    assert fields[b"X-A"] == b"b"
    assert body == {"error": {"code": "NO_ROUTE", "message": "no route matches", "correlation_id": "c-1"}}


def test_details_are_members_of_the_error():
    *_, body = reply(error=NoRoute('no "route" matches', details={"listener": "ingress"}))
    assert body["error"] == {
        "code": "NO_ROUTE",
        "message": 'no "route" matches',
        "correlation_id": "c-1",
        "listener": "ingress",
    }


def test_seconds_are_rounded_up():
    _, fields, _ = reply(error=BulkheadFull("full", retry_after=0.1))
    assert fields[b"Retry-After"] == b"1"


def test_problem_details_of_rfc_9457():
    _, fields, body = reply(b"application/problem+json")
    assert fields[b"Content-Type"] == b"application/problem+json"
    assert body == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "no route matches",
        "code": "NO_ROUTE",
        "correlation_id": "c-1",
    }


@pytest.mark.parametrize(
    "accept",
    [
        [b"text/html, application/problem+json;q=0.5"],
        [b"text/html", b"Application/Problem+JSON"],
        [b"application/problem+json; charset=utf-8 ; q=0.001"],
    ],
)
def test_asked_for(accept):
    assert reply(*accept)[1][b"Content-Type"] == b"application/problem+json"


@pytest.mark.parametrize(
    "accept",
    [
        [b"*/*"],
        [b"application/*, application/json"],
        [b"application/problem+json;q=0"],
        [b"application/json, application/problem+json ; q=0.000"],
        [b"x-application/problem+json"],
        [b""],
    ],
)
def test_not_asked_for(accept):
    assert reply(*accept)[1][b"Content-Type"] == b"application/json"


@pytest.mark.parametrize("seconds", [30, 29])
def test_a_frequent_reply_says_the_same(seconds):
    error = CircuitOpen("the breaker is open", retry_after=seconds)
    frequent = FrequentReply(CircuitOpen("the breaker is open"))
    frequent.make(1000.0, 30, b"someone-else", b"")
    answer, size = frequent.make(1000.001, seconds, b"c-1", b"X-A: b\r\n")
    start, _, body = answer.partition(b"\r\n\r\n")
    assert size == len(body)
    head, same_body = error_reply(error, accept=[], correlation_id=b"c-1", added=b"X-A: b\r\n")
    assert body == same_body
    without_date = [line for line in head.split(b"\r\n") if line and not line.startswith(b"Date")]
    assert sorted(line for line in start.split(b"\r\n") if not line.startswith(b"Date")) == sorted(
        without_date
    )


def test_a_frequent_reply_has_the_date_of_its_second(monkeypatch):
    frequent, wall = FrequentReply(CircuitOpen("the breaker is open")), 1_700_000_000.4
    for passed, date in [(0.0, b"22:13:20"), (0.5, b"22:13:20"), (0.7, b"22:13:21"), (1.7, b"22:13:22")]:
        monkeypatch.setattr("sidecar.reply.time", lambda at=wall + passed: at)
        answer, _ = frequent.make(1000.0 + passed, 30, b"c-1", b"")
        assert b"Date: Tue, 14 Nov 2023 %b GMT\r\n" % date in answer

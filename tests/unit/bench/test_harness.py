from __future__ import annotations

from bench.harness import take_turns
from bench.load import Recipe, http_request


def test_turns_alternate_their_order():
    order = []
    results = take_turns({name: lambda name=name: order.append(name) or len(order) for name in "ABC"}, 3)
    assert "".join(order) == "ABCCBAABC"
    assert results == {"A": [1, 6, 7], "B": [2, 5, 8], "C": [3, 4, 9]}


def test_a_request_carries_its_body_and_its_length():
    head, _, body = http_request("POST", "/orders", "Idempotency-Key: k", body=b"{}").partition(b"\r\n\r\n")
    assert body == b"{}"
    assert head.split(b"\r\n")[0] == b"POST /orders HTTP/1.1"
    assert b"Idempotency-Key: k" in head.split(b"\r\n")
    assert b"Content-Length: 2" in head.split(b"\r\n")


def test_a_broken_proxy_cannot_look_fast():
    recipe = Recipe(b"", 200, 27, with_field=b"x-wanted", without_field=b"x-unwanted")
    good = b"HTTP/1.1 200 OK\r\nX-Wanted: 1\r\nOther: x-unwanted: 1\r\n"
    assert recipe.complaint(good) is None
    assert recipe.complaint(good.replace(b"200", b"502")) == "expected status 200"
    assert recipe.complaint(b"HTTP/1.1 200 OK\r\n") == "expected a field x-wanted"
    assert recipe.complaint(good + b"X-Unwanted: 1\r\n") == "expected no field x-unwanted"

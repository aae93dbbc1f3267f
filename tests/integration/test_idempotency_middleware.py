"""The library's idempotency under uvicorn, with a real Redis: two processes of one application."""

from __future__ import annotations

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.contract.redis_servers import Server
from tests.support.client import HTTP
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.raw import Client
from tests.support.waiting import eventually

APPS = Path(__file__).parents[1] / "support" / "apps"

pytestmark = pytest.mark.xdist_group("idempotency middleware")


class Shop:
    """One process."""

    def __init__(self, store_url):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        options = ["--app-dir", str(APPS), "--port", str(self.port), "--log-level", "warning"]
        command = [sys.executable, "-m", "uvicorn", *options, "idempotent_shop:app"]
        self.process = Process(command, env={**os.environ, "STORE_URL": store_url}, name="shop")
        self.process.wait_listening("127.0.0.1", self.port)

    def post(self, key, target="/orders", content=b"order"):
        return HTTP.post(self.url + target, content=content, headers={"Idempotency-Key": key})

    def executions(self):
        return int(HTTP.get(self.url + "/executions").text)

    def close(self):
        if self.process.exit_code is None:
            assert self.process.stop() in (0, -signal.SIGTERM)
        assert "Traceback" not in self.process.output(), self.process.output()


@pytest.fixture
def shops(tmp_path):
    with ExitStack() as stack:
        server = stack.enter_context(closing(Server("valkey", tmp_path)))
        yield [stack.enter_context(closing(Shop(server.url))) for _ in range(2)]


def test_what_one_process_has_executed_the_other_replays(shops):
    one, other = shops
    first, again = one.post("k"), other.post("k")
    assert (first.status_code, first.text) == (again.status_code, again.text) == (201, "1:5")
    assert again.headers["x-idempotent-replayed"] == "true"
    assert again.headers["x-idempotent-original-correlation-id"] == first.headers["x-correlation-id"]
    assert other.post("k", content=b"another order").status_code == 422
    assert (one.executions(), other.executions()) == (1, 0)
    large = b"x" * (2 << 20)
    assert one.post("large", content=large).text == other.post("large", content=large).text == f"2:{2 << 20}"


def test_many_at_once_are_one_execution(shops):
    with ThreadPoolExecutor(30) as pool:
        responses = list(pool.map(lambda number: shops[number % 2].post("burst"), range(100)))
    assert sum(shop.executions() for shop in shops) == 1
    assert {it.status_code for it in responses} <= {201, 409}
    assert {it.text for it in responses if it.status_code == 201} == {"1:5"}


def test_a_client_that_goes_away_cancels_nothing(shops):
    one, other = shops
    client = Client(("127.0.0.1", one.port))
    client.send(
        b"POST /orders?wait HTTP/1.1\r\nHost: test\r\nIdempotency-Key: k\r\nContent-Length: 5\r\n\r\norder"
    )
    eventually(lambda: one.executions() == 1, "the application has the request")
    assert other.post("k", "/orders?wait").status_code == 409
    client.reset()
    HTTP.post(one.url + "/go-on")
    eventually(lambda: other.post("k", "/orders?wait").text == "1:5", "its answer is replayed")


def test_a_killed_process_leaves_an_unknown_outcome(shops):
    one, other = shops
    client = Client(("127.0.0.1", one.port))
    client.send(
        b"POST /orders?wait HTTP/1.1\r\nHost: test\r\nIdempotency-Key: k\r\nContent-Length: 5\r\n\r\norder"
    )
    eventually(lambda: one.executions() == 1, "the application has the request")
    one.process.kill()

    def code():
        response = other.post("k", "/orders?wait")
        assert response.status_code == 409
        return response.json()["error"]["code"]

    assert code() == "DUPLICATE_REQUEST_IN_PROGRESS"
    eventually(lambda: code() == "IDEMPOTENCY_OUTCOME_UNKNOWN", "its lease has run out")
    assert other.executions() == 0

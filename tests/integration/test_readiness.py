"""When traffic should come: not while the store is away that requests need; and what is said of the store."""

from __future__ import annotations

import pytest

from tests.contract.redis_servers import Server
from tests.support.sidecar import config_for
from tests.support.waiting import eventually


@pytest.fixture
def valkey(tmp_path):
    server = Server("valkey", tmp_path)
    yield server
    server.close()


def test_the_sidecar_is_not_ready_while_its_store_is_away(start_sidecar, upstream, valkey):
    sidecar = start_sidecar(config_for(upstream.url, store=valkey.url))
    valkey.kill()
    eventually(lambda: sidecar.get("/readyz").status_code == 503, "it is not ready any more")
    assert sidecar.get("/readyz").json() == {
        "status": "unavailable",
        "reason": "the idempotency store is unavailable",
    }
    status = sidecar.get("/admin/status").json()
    assert (status["ready"], status["store"]["reachable"]) == (False, False)
    assert status["store"]["problem"]
    assert sidecar.get("/healthz").status_code == 200
    valkey.start()
    eventually(lambda: sidecar.get("/readyz").status_code == 200, "it is ready again")


def test_a_silent_store_is_away_too(start_sidecar, upstream, valkey):
    sidecar = start_sidecar(config_for(upstream.url, store=valkey.url, store_timeout="200ms"))
    valkey.freeze()
    eventually(lambda: sidecar.get("/readyz").status_code == 503, "it is not ready any more")
    valkey.thaw()
    eventually(lambda: sidecar.get("/readyz").status_code == 200, "it is ready again")


@pytest.mark.parametrize("idempotency", ["off", {"on_store_down": "open"}])
def test_a_store_that_no_request_needs_makes_no_difference(start_sidecar, upstream, valkey, idempotency):
    sidecar = start_sidecar(config_for(upstream.url, store=valkey.url, idempotency=idempotency))
    valkey.kill()
    eventually(lambda: not sidecar.get("/admin/status").json()["store"]["reachable"], "the store is away")
    assert sidecar.get("/readyz").status_code == 200


def advice(sidecar):
    return [line["message"] for line in sidecar.logs() if line["event"] == "store"]


def test_weak_settings_of_the_store_are_told_at_the_start(start_sidecar, upstream, valkey):
    valkey.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    sidecar = start_sidecar(config_for(upstream.url, store=valkey.url))
    eventually(lambda: len(advice(sidecar)) == 2, "two warnings")
    assert any("allkeys-lru" in message and "noeviction" in message for message in advice(sidecar))
    assert any("appendonly" in message for message in advice(sidecar))


def test_a_store_that_comes_later_is_looked_at_then(start_sidecar, upstream, valkey):
    valkey.kill()
    sidecar = start_sidecar(config_for(upstream.url, store=valkey.url), expect_ready=False)
    sidecar.wait_log(lambda line: line["event"] == "store unreachable", "that the store is away")
    valkey.start()
    sidecar.wait_log(lambda line: line["event"] == "store", "what is weak about it")
    sidecar.wait_ready()


def test_a_store_in_memory_is_told_in_one_line(sidecar):
    eventually(lambda: advice(sidecar), "a warning")
    assert len(advice(sidecar)) == 1
    assert "restart" in advice(sidecar)[0]

import json

import pytest

from sidecar.settings.addresses import Address, UpstreamUrl
from sidecar.settings.kinds import Secret, SecretUrl
from sidecar.settings.model import Admin, Match, Metrics, Route, Settings, Upstream
from sidecar.settings.present import present


def test_values_are_shown_as_they_are_written():
    shown = present(Settings(upstreams={"app": Upstream(url=UpstreamUrl("http", "x", 80))}))
    assert shown["workers"] == 1
    assert shown["drain_timeout"] == "30s"
    assert shown["limits"]["header_bytes"] == "64KiB"
    assert shown["limits"]["body"] == "none"
    assert shown["tracing"] == {"sample": "10%"}
    assert shown["metrics"] is None
    assert shown["upstreams"]["app"]["url"] == "http://x:80"
    assert shown["upstreams"]["app"]["retry"]["jitter"] is True
    assert shown["upstreams"]["app"]["retry"]["multiplier"] == 2
    assert shown["upstreams"]["app"]["breaker"]["failure_statuses"] == [502, 503, 504]
    assert shown["listeners"][0]["bind"] == "0.0.0.0:8080"
    json.dumps(shown)


def test_what_is_off_and_what_is_on():
    shown = present(
        Settings(
            routes=(Route(name="a", upstream="b", idempotency=None, match=Match(methods=("GET",))),),
            metrics=Metrics(bind=Address("127.0.0.1", 1)),
        )
    )
    assert shown["routes"][0]["idempotency"] == "off"
    assert shown["routes"][0]["match"]["methods"] == ["GET"]
    assert shown["metrics"] == {"bind": "127.0.0.1:1"}


def test_secrets_are_masked():
    settings = Settings(
        admin=Admin(token="hunter2"),
        store="redis://user:hunter2@host/0",
        database="postgresql://user:hunter2/@x@host/db?password=hunter2&x=1",
    )
    text = json.dumps(present(settings))
    assert "hunter2" not in text
    assert present(settings)["store"] == "redis://user:***@host/0"
    assert present(settings)["database"] == "postgresql://user:***@host/db?password=***&x=1"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host", "redis://host"),
        ("redis://:pw@host", "redis://:***@host"),
        ("redis://user@host", "redis://user@host"),
        ("memory://", "memory://"),
    ],
)
def test_urls(url, shown):
    assert SecretUrl("redis", "memory").show(url) == shown


def test_a_bad_secret_is_not_echoed():
    with pytest.raises(ValueError, match="got 9 characters that are not") as caught:
        Secret("[a-z]+", "letters").parse("hunter2 !")
    assert "hunter" not in str(caught.value)
    with pytest.raises(ValueError, match="got a value without ://") as caught:
        SecretUrl("redis", "memory").parse("hunter2")
    assert "hunter" not in str(caught.value)


def test_nothing_follows_memory():
    with pytest.raises(ValueError, match="nothing follows memory://"):
        SecretUrl("redis", "memory").parse("memory://host")

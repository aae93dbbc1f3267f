"""Server-sent events from Starlette under uvicorn: each arrives before the next one exists."""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import closing, contextmanager

import httpx
import pytest

from tests.support.sidecar import Sidecar, config_for
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.xdist_group("event streams")


@pytest.fixture(scope="module")
def proxy(event_source, tmp_path_factory):
    config = config_for(event_source.url)
    config["upstreams"]["app"]["timeouts"] = {"total": "300ms", "first_byte": "300ms"}
    with closing(Sidecar(config, tmp_path_factory.mktemp("events"))) as sidecar:
        yield sidecar


@pytest.fixture
def source(event_source):
    """The service itself, to tell it what to send."""
    with httpx.Client(base_url=event_source.url, trust_env=False, timeout=PATIENCE) as client:
        yield client


@contextmanager
def listening(proxy, channel, **headers):
    with (
        httpx.Client(base_url=proxy.url, trust_env=False, timeout=PATIENCE) as client,
        client.stream("GET", f"/events/{channel}", headers=headers) as response,
    ):
        yield response


def test_events_arrive_as_they_are_sent(proxy, source):
    with listening(proxy, "now") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.iter_lines()
        for number in range(10):
            source.post("/send/now", content=json.dumps({"n": number}))
            assert next(lines) == f'data: {{"n": {number}}}'
            assert next(lines) == ""
        source.post("/end/now")
        assert list(lines) == []


def test_a_stream_outlives_the_total_timeout(proxy, source):
    """A request that began later runs out of time first; the stream, which is older, still delivers."""
    with listening(proxy, "long") as response:
        lines = response.iter_lines()
        source.post("/send/long", content="before")
        assert [next(lines), next(lines)] == ["data: before", ""]
        late = httpx.get(f"{proxy.url}/silence", trust_env=False, timeout=PATIENCE)
        assert (late.status_code, late.json()["error"]["code"]) == (504, "UPSTREAM_TIMEOUT")
        source.post("/send/long", content="after")
        assert [next(lines), next(lines)] == ["data: after", ""]


def test_curl_sees_events_at_once(proxy, source):
    program = shutil.which("curl")
    assert program, "these tests need curl on the PATH"
    command = [program, "-sSN", "--noproxy", "*", "--max-time", "20", f"{proxy.url}/events/curl"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for number in range(3):
            source.post("/send/curl", content=str(number))
            assert process.stdout.readline() == f"data: {number}\n"
            assert process.stdout.readline() == "\n"
        source.post("/end/curl")
        assert process.stdout.read() == ""
    assert process.returncode == 0


def test_two_listeners_do_not_hold_each_other_up(proxy, source):
    with listening(proxy, "a") as first, listening(proxy, "b") as second:
        first_lines, second_lines = first.iter_lines(), second.iter_lines()
        source.post("/send/b", content="2")
        assert next(second_lines) == "data: 2"
        source.post("/send/a", content="1")
        assert next(first_lines) == "data: 1"


def test_the_services_end_is_seen_and_logged(proxy, source):
    with listening(proxy, "ends", **{"X-Correlation-ID": "sse-ends"}) as response:
        source.post("/end/ends")
        assert response.read() == b""
    line = proxy.access_line(correlation_id="sse-ends")
    assert line["status"] == 200

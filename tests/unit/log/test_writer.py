"""The log and its thread: nothing blocks, nothing is lost silently."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import time
import warnings

import pytest

from sidecar.log import Log, capture_stdlib

REQUEST = {
    "method": b"GET",
    "target": b"/",
    "route": "default",
    "status": 200,
    "bytes_in": 0,
    "bytes_out": 2,
    "duration_ms": 1.0,
    "attempts": 1,
    "upstream_host": "127.0.0.1:1",
    "idempotency": "",
    "breaker": "closed",
    "reason": "",
    "correlation_id": b"c",
    "trace_id": b"",
}


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(end)


def lines_of(reader, writer):
    """All lines written so far; the log is closed, so that no more will come."""
    os.close(writer)
    with os.fdopen(os.dup(reader), "rb") as file:
        return [json.loads(line) for line in file]


def test_events_and_access_lines_come_out_in_order(pipe):
    reader, writer = pipe
    log = Log(service="requests", fd=writer, now=lambda: 1_700_000_000.0)
    log.info("started", port=8080)
    log.access(**REQUEST)
    log.error("broken", error=OSError("no"))
    log.close()
    lines = lines_of(reader, writer)
    assert [line["event"] for line in lines] == ["started", "access", "broken"]
    assert lines[0] == {
        "time": "2023-11-14T22:13:20.000Z",
        "level": "info",
        "event": "started",
        "service": "requests",
        "port": 8080,
    }
    assert log.dropped == 0


def test_many_batches_come_out_whole(pipe):
    reader, writer = pipe
    log = Log(service="s", fd=writer)
    for number in range(100):
        log.warning("n", number=number)
    log.close()
    assert [line["number"] for line in lines_of(reader, writer)] == list(range(100))


def test_the_level_decides_and_can_be_changed(pipe):
    reader, writer = pipe
    log = Log(service="s", fd=writer, level="WARNING")
    log.access(**REQUEST)
    log.info("no")
    log.warning("yes")
    log.set_level("debug")
    assert log.level == "debug"
    log.debug("now")
    log.access(**REQUEST)
    log.close()
    assert [line["event"] for line in lines_of(reader, writer)] == ["yes", "now", "access"]


@pytest.mark.parametrize("level", ["", "loud", "trace", "20"])
def test_an_unknown_level_is_refused_and_changes_nothing(pipe, level):
    log = Log(service="s", fd=pipe[1], level="error")
    with pytest.raises(ValueError, match="a log level is one of debug, info, warning, error"):
        log.set_level(level)
    assert log.level == "error"


def test_a_full_buffer_drops_and_counts(pipe):
    log = Log(service="s", fd=pipe[1], capacity=3)
    log._awake = True  # as if the thread were busy
    for _ in range(5):
        log.info("e")
    log.access(**REQUEST)
    assert log.dropped == 3
    assert len(log._records) == 3


def test_a_stalled_reader_costs_lines_but_neither_time_nor_memory(pipe):
    _, writer = pipe
    log = Log(service="s", fd=writer, capacity=100)
    started = time.monotonic()
    for _ in range(20_000):
        log.access(**REQUEST)
    log.close(timeout=0.2)
    assert time.monotonic() - started < 3
    assert log.dropped > 10_000


def test_a_reader_that_went_away_costs_lines(pipe):
    reader, writer = pipe
    os.close(reader)
    log = Log(service="s", fd=writer)
    for _ in range(50):
        log.info("e")
    log.close()
    assert log.dropped == 50


def test_a_non_blocking_pipe_is_waited_for(pipe):
    reader, writer = pipe
    os.set_blocking(writer, False)
    log = Log(service="s", fd=writer)
    for number in range(3000):
        log.info("n", number=number, filling="x" * 100)
    while select.select([], [writer], [], 0)[1]:
        time.sleep(0.001)
    seen = b""
    while seen.count(b"\n") < 3000:
        seen += os.read(reader, 65_536)
    log.close()
    assert log.dropped == 0
    assert json.loads(seen.splitlines()[-1])["number"] == 2999


def test_closing_a_log_that_never_wrote_is_nothing(pipe):
    log = Log(service="s", fd=pipe[1])
    log.close()
    assert log.dropped == 0


def test_a_child_gets_a_thread_of_its_own_and_an_empty_buffer(pipe):
    reader, writer = pipe
    log = Log(service="s", fd=writer)
    log.info("parent")
    child = os.fork()
    if child == 0:
        log.info("child")
        log.close()
        os._exit(0)
    os.waitpid(child, 0)
    log.close()
    events = sorted(line["event"] for line in lines_of(reader, writer))
    assert events == ["child", "parent"]


def test_an_unforeseen_error_is_written_with_its_traceback(pipe):
    reader, writer = pipe
    log = Log(service="s", fd=writer)
    with pytest.raises(KeyError) as raised:
        {}["missing"]
    log.crash("crashed", raised.value, where="here")
    log.close()
    (line,) = lines_of(reader, writer)
    assert (line["level"], line["error"], line["where"]) == ("error", "KeyError: 'missing'", "here")
    assert "test_writer.py" in line["traceback"]


def test_colours_are_for_terminals_whose_user_wants_them(monkeypatch):
    monkeypatch.setattr("os.isatty", lambda fd: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert Log(service="s", style="console")._lines._colours
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Log(service="s", style="console")._lines._colours


@pytest.fixture
def _own_logging():
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = before
    root.setLevel(level)


@pytest.mark.usefixtures("_own_logging")
def test_what_libraries_say_comes_into_the_log(pipe):
    log = Log(service="s", fd=pipe[1])
    capture_stdlib(log)
    logging.getLogger("aiohttp.server").warning("port %d\nin use", 80)
    logging.getLogger("asyncio").debug("not wanted")
    logging.getLogger("asyncio").critical("worse")
    logging.getLogger("odd").info("%d too many", "arguments")
    logging.getLogger("fine").info("plain", extra={"correlation_id": "c-1", "trace_id": "ab" * 16})
    log.set_level("debug")
    logging.getLogger("fine").debug("detail")
    warnings.warn("careful", UserWarning, stacklevel=1)
    logging.getLogger("asyncio").error("failed", exc_info=OSError("no route"))
    log.close()
    lines = lines_of(*pipe)
    assert {line["event"] for line in lines} == {"library"}
    known = [(line["correlation_id"], line["trace_id"]) for line in lines if "correlation_id" in line]
    assert known == [("c-1", "ab" * 16)]
    told = [(line["level"], line["logger"], line["message"].split("\n")[0]) for line in lines]
    assert told[:5] == [
        ("warning", "aiohttp.server", "port 80"),
        ("error", "asyncio", "worse"),
        ("info", "odd", "%d too many"),
        ("info", "fine", "plain"),
        ("debug", "fine", "detail"),
    ]
    assert told[5][:2] == ("warning", "py.warnings")
    assert lines[6]["error"] == "OSError: no route"

"""create_logger: structlog's way of calling, the sidecar's lines."""

from __future__ import annotations

import json
import os
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider

from sidecar.correlation.current import CORRELATION_ID
from sidecar.log.structured import create_logger


@pytest.fixture
def lines(monkeypatch):
    """A logger's arguments go in, its lines come out."""
    registered = []
    monkeypatch.setattr("atexit.register", lambda call, *arguments: registered.append((call, arguments)))
    reader, writer = os.pipe()

    def collect(use, **options):
        use(create_logger("requests", fd=writer, **options))
        for call, arguments in registered:
            call(*arguments)
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            return [json.loads(line) for line in file]

    return collect


def test_lines_have_the_sidecars_members_and_what_was_bound(lines):
    def use(logger):
        logger.bind(order=7).info("paid", amount=3)

    (line,) = lines(use)
    assert (line["service"], line["level"], line["event"]) == ("requests", "info", "paid")
    assert (line["order"], line["amount"]) == (7, 3)
    assert "correlation_id" not in line


def test_the_level_decides(lines):
    def use(logger):
        logger.debug("no")
        logger.info("no")
        logger.warning("yes")
        logger.critical("worst")

    assert [(line["event"], line["level"]) for line in lines(use, level="warning")] == [
        ("yes", "warning"),
        ("worst", "error"),
    ]


def test_a_request_and_a_span_leave_their_ids(lines):
    def use(logger):
        token = CORRELATION_ID.set("corr-1")
        with TracerProvider().get_tracer("t").start_as_current_span("s") as span:
            logger.info("inside")
            logger.info("given", correlation_id="other")
        CORRELATION_ID.reset(token)
        context = span.get_span_context()
        expected.append((f"{context.trace_id:032x}", f"{context.span_id:016x}"))

    expected: list = []
    first, second = lines(use)
    assert first["correlation_id"] == "corr-1"
    assert (first["trace_id"], first["span_id"]) == expected[0]
    assert second["correlation_id"] == "other"


def test_without_opentelemetry_there_are_no_spans(lines, monkeypatch):
    monkeypatch.delitem(sys.modules, "opentelemetry.trace", raising=False)
    (line,) = lines(lambda logger: logger.info("plain"))
    assert "trace_id" not in line


def test_errors_come_with_their_traceback(lines):
    def use(logger):
        try:
            json.loads("{")
        except ValueError:
            logger.exception("broken")
        logger.error("given", exc_info=OSError("no"))
        logger.error("nothing to tell", exc_info=None)

    first, second, third = lines(use)
    assert first["error"].startswith("JSONDecodeError: ")
    assert "test_structured.py" in first["traceback"]
    assert second["error"] == "OSError: no"
    assert "error" not in third


def test_an_unknown_level_is_refused():
    with pytest.raises(ValueError, match="a log level is one of"):
        create_logger("s", level="loud")

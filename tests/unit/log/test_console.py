"""The console format: readable, and as safe as the other."""

from __future__ import annotations

import pytest

from sidecar.log.console import ConsoleLines
from sidecar.log.record import Event
from tests.unit.log.test_json import HOSTILE, WALL, access_record


def plain(level="info", name="something", **fields):
    return ConsoleLines(colours=False).event(Event(WALL, level, name, fields)).decode()


def test_an_event_reads_from_left_to_right():
    assert plain("warning", "store_down", store="redis://cache", tries=3) == (
        "22:13:20.123 WARNING store_down store=redis://cache tries=3\n"
    )


def test_an_access_line_begins_with_what_people_look_for():
    line = ConsoleLines(colours=False).access(*access_record(reason="", trace_id=b"")).decode()
    assert line == (
        "22:13:20.123 INFO    POST /api/v1/requests 201 3.3ms route=create-request bytes_in=17 bytes_out=52 "
        "attempts=1 upstream_host=127.0.0.1:3000 idempotency=executed breaker=closed "
        "correlation_id=0192f0c4-7f7c-7b7e-8b7e-0123456789ab\n"
    )


def test_values_that_are_no_word_stand_in_quotes():
    assert plain(a="two words", b='say "hi"', c="", d="back\\slash", e=None, f=[1, "x"]) == (
        '22:13:20.123 INFO    something a="two words" b="say \\"hi\\"" c="" d="back\\\\slash" e=None '
        "f=\"[1, 'x']\"\n"
    )


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_values_reach_no_terminal(value):
    lines = ConsoleLines(colours=False)
    for line in (
        lines.access(*access_record(target=value, method=value)),
        lines.event(Event(WALL, "info", value.decode("latin-1"), {value.decode("latin-1"): value})),
    ):
        shown = line.decode()
        assert shown.endswith("\n")
        assert shown[:-1].isprintable()


def test_a_lone_surrogate_does_no_harm():
    assert "\\ud800" in plain(value="\ud800")


@pytest.mark.parametrize(
    ("status", "colour"), [(200, "\x1b[32m"), (302, "\x1b[32m"), (404, "\x1b[33m"), (503, "\x1b[31m")]
)
def test_colours_show_how_a_request_went(status, colour):
    line = ConsoleLines(colours=True).access(*access_record(status=status)).decode()
    assert f"{colour}INFO" in line
    assert line.endswith("\x1b[0m\n")


def test_a_traceback_follows_indented():
    assert plain("error", "crash", traceback="Traceback:\n  File \x1b[31m\nValueError: x\n") == (
        "22:13:20.123 ERROR   crash\n    Traceback:\n      File \\x1b[31m\n    ValueError: x\n"
    )

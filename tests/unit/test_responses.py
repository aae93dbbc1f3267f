import pytest

from sidecar.responses import is_event_stream, phrase_of
from tests.unit.wire.messages import response


@pytest.mark.parametrize(
    ("fields", "streams"),
    [
        ([b"Content-Type: text/event-stream"], True),
        ([b"Content-Type: Text/Event-Stream; charset=utf-8"], True),
        ([b"Content-Type: text/html"], False),
        ([], False),
    ],
)
def test_event_streams(fields, streams):
    assert is_event_stream(response(*fields)) is streams


@pytest.mark.parametrize(("status", "phrase"), [(200, b"OK"), (404, b"Not Found"), (299, b""), (999, b"")])
def test_phrases(status, phrase):
    assert phrase_of(status) == phrase

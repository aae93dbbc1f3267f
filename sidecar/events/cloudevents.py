"""CloudEvents 1.0: read from requests in binary or structured mode, written to requests in binary mode.

Sources: CloudEvents 1.0.2 core specification, its HTTP protocol binding, and its JSON format. The bytes of
``data`` are never written anew: what was published is what is delivered, numbers beyond a double included.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote_to_bytes

import orjson

from sidecar.correlation.core import is_valid
from sidecar.dlq.codec import timestamp
from sidecar.events.envelope import EnvelopeError, members_of
from sidecar.ids import uuid7

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SPEC_VERSION: Final = "1.0"
JSON: Final = "application/json"
STRUCTURED: Final = "application/cloudevents+json"

_MAX_ATTRIBUTES: Final = 64
_MAX_ATTRIBUTE_BYTES: Final = 16 * 1024
_REQUIRED: Final = ("id", "source", "type", "specversion")
_NAME = re.compile(r"[a-z0-9]{1,64}")
# Core specification, "Type System": no control characters, no code points that are no characters.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff\ud800-\udfff]")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,12})?(?:[Zz]|[+-]\d\d:\d\d)")  # RFC 3339
_MEDIA_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t]*;[\t\x20-\x7e]*)?")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')

# HTTP binding, section 3.1.3.2: all printable ASCII characters but space, double quote and percent.
_SAFE: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
_SAFE_VALUE = re.compile(r"[!#$&-~]*")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")

# What an Idempotency-Key may be without quotes, and within.
_BARE_KEY = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]{1,255}")
_QUOTABLE_KEY = re.compile(r"[\x20-\x7e]{1,255}")


class EventError(ValueError):
    """What was published is no event; the message says why."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event.

    Attributes:
        attributes: Context attributes by name, as text; ``datacontenttype`` is among them.
        data: The payload.
    """

    attributes: Mapping[str, str]
    data: bytes

    @property
    def id(self) -> str:
        """Tells it from all others of its source."""
        return self.attributes["id"]

    @property
    def correlation_id(self) -> str:
        """Of what caused it; empty where there is none, or none that a header may carry."""
        value = self.attributes.get("correlationid", "")
        return value if is_valid(value.encode()) else ""

    @property
    def traceparent(self) -> str:
        """Where in a trace it was published (the distributed tracing extension); empty if malformed."""
        value = self.attributes.get("traceparent", "")
        return value if _TRACEPARENT.fullmatch(value) else ""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits of ``traceparent``, or empty."""
        return self.traceparent[3:35]

    @property
    def log_fields(self) -> dict[str, str]:
        """What tells in a log line which event it is about, beside its id."""
        return {"correlation_id": self.correlation_id, "trace_id": self.trace_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What the sidecar knows of a request to publish.

    Attributes:
        event_type: From the path.
        service: The sidecar's service, the source of events that name none.
        now: Seconds since the Unix epoch.
        correlation_id: The request's.
        traceparent: The request's, or empty.
    """

    event_type: str
    service: str
    now: float
    correlation_id: str = ""
    traceparent: str = ""


def read_event(headers: Iterable[tuple[str, str]], body: bytes, publication: Publication) -> Event:
    """The event that a request publishes: a CloudEvent in structured or binary mode, or plain JSON.

    Raises:
        EventError: It is none of these.
    """
    content_type, context = _split_headers(headers)
    media_type = _media_type(content_type)
    if media_type.startswith("application/cloudevents"):
        attributes, data = _structured(media_type, body)
        _check_attributes(attributes)
    elif context:
        attributes, data = _binary(content_type, context, body)
        _check_attributes(attributes)
    else:
        attributes, data = _plain(media_type, content_type, body, publication)
    if data:
        _check_data(attributes, data)
    attributes.setdefault("correlationid", publication.correlation_id)
    attributes.setdefault("traceparent", publication.traceparent)
    return Event({name: value for name, value in attributes.items() if value}, data)


def event_of(publication: Publication, data: bytes, *, event_id: str = "") -> Event:
    """An event of this sidecar's or program's own making, with JSON as its data."""
    attributes = {
        "specversion": SPEC_VERSION,
        "id": event_id or uuid7(),
        "source": f"/{publication.service}",
        "type": publication.event_type,
        "time": timestamp(publication.now),
        "datacontenttype": JSON,
        "correlationid": publication.correlation_id,
        "traceparent": publication.traceparent,
    }
    return Event({name: value for name, value in attributes.items() if value}, data)


def delivery_headers(event: Event) -> list[tuple[bytes, bytes]]:
    """The fields of a request that delivers ``event`` in binary mode, with its id as ``Idempotency-Key``."""
    headers = []
    for name, value in event.attributes.items():
        if name == "datacontenttype":
            headers.append((b"content-type", value.encode()))
        else:
            encoded = value if _SAFE_VALUE.fullmatch(value) else quote(value, safe=_SAFE)
            headers.append((f"ce-{name}".encode(), encoded.encode()))
    headers.append((b"idempotency-key", idempotency_key(event.id)))
    return headers


def idempotency_key(event_id: str) -> bytes:
    """``event_id`` as the value of an ``Idempotency-Key``.

    Bare where its characters allow it, else as a string of RFC 8941; a hash where neither can hold it.
    """
    if _BARE_KEY.fullmatch(event_id):
        return event_id.encode()
    if _QUOTABLE_KEY.fullmatch(event_id):
        escaped = event_id.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'.encode()
    return b"sha256-" + hashlib.sha256(event_id.encode()).hexdigest().encode()


def to_fields(event: Event) -> dict[str, str | bytes]:
    """The event as the fields of a stream's entry: each attribute, and ``data``."""
    return {**event.attributes, "data": event.data}


def from_fields(fields: Mapping[bytes, bytes], *, event_type: str, entry_id: str) -> Event:
    """The event in a stream's entry. Other programs write there too: what an event must have is filled in."""
    texts = {_text(name): _text(value) for name, value in fields.items() if name != b"data"}
    attributes = {name: value for name, value in texts.items() if not _problem(name, value)}
    data = fields.get(b"data")
    if data is None:  # a program's own fields are its payload
        data = orjson.dumps(texts)
        attributes["datacontenttype"] = JSON
    attributes.setdefault("id", entry_id)
    attributes.setdefault("source", f"/streams/{event_type}")
    attributes.setdefault("type", event_type)
    attributes["specversion"] = SPEC_VERSION
    return Event(attributes, data)


def is_json(media_type: str) -> bool:
    """Whether a media type, without parameters and in lower case, is JSON (JSON format, section 3.1.1)."""
    return media_type.endswith(("/json", "+json"))


def _split_headers(headers: Iterable[tuple[str, str]]) -> tuple[str, dict[str, str]]:
    """The content type, and the values of ``ce-`` fields by attribute."""
    content_type, context = "", {}
    for field, value in headers:
        name = field.lower()
        if name == "content-type":
            content_type = value
        elif name.startswith("ce-"):
            attribute = name[3:]
            if attribute in context:
                raise EventError(f"{field} is there twice")
            context[attribute] = value
    return content_type, context


def _plain(
    media_type: str, content_type: str, body: bytes, publication: Publication
) -> tuple[dict[str, str], bytes]:
    if content_type and not is_json(media_type):
        raise EventError(
            f"expected JSON, or a CloudEvent with ce- fields or as {STRUCTURED}, not {media_type!r}"
        )
    if not body:
        raise EventError("the body is empty, expected JSON")
    attributes = dict(event_of(publication, body).attributes)
    if content_type:
        problem = _problem("datacontenttype", content_type)
        if problem:
            raise EventError(problem)
        attributes["datacontenttype"] = content_type
    return attributes, body


def _binary(content_type: str, context: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    if "datacontenttype" in context:
        raise EventError(
            "ce-datacontenttype does not exist: Content-Type says it (HTTP binding, section 3.1.1)"
        )
    attributes = {name: _header_value(name, value) for name, value in context.items()}
    if content_type:
        attributes["datacontenttype"] = content_type
    return attributes, body


def _header_value(name: str, value: str) -> str:
    """Undo quotes, then one round of percent-encoding (HTTP binding, section 3.1.3.2)."""
    quoted = _QUOTED.fullmatch(value)
    if quoted:
        value = re.sub(r"\\(.)", r"\1", quoted[1])
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeError:
        raise EventError(f"ce-{name} is not UTF-8") from None


def _structured(media_type: str, body: bytes) -> tuple[dict[str, str], bytes]:
    if media_type != STRUCTURED:
        raise EventError(f"expected {STRUCTURED}, not {media_type}: events are published one by one, as JSON")
    try:
        members = members_of(body)
    except EnvelopeError as error:
        raise EventError(f"the event is not a JSON object: {error}") from None
    data, encoded = members.pop("data", None), members.pop("data_base64", None)
    attributes = {
        name: _member_value(name, member.value)
        for name, member in members.items()
        if member.value is not None
    }
    if encoded is not None and encoded.value is not None:
        if data is not None:
            raise EventError("the event has both data and data_base64")
        return attributes, _from_base64(encoded.value)
    if data is None:
        return attributes, b""
    media_type = _media_type(attributes.setdefault("datacontenttype", JSON))
    if is_json(media_type):
        return attributes, data.text
    if not isinstance(data.value, str):
        raise EventError(f"data is not a string, although datacontenttype is {media_type!r}")
    return attributes, data.value.encode("utf-8", "surrogatepass")


def _member_value(name: str, value: Any) -> str:
    """An attribute's canonical text (core specification, "Type System")."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return value
    raise EventError(f"attribute {name[:64]!r} is neither a string, nor a whole number, nor a boolean")


def _from_base64(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise EventError("data_base64 is not Base64") from None


def _check_attributes(attributes: dict[str, str]) -> None:
    if len(attributes) > _MAX_ATTRIBUTES or sum(map(len, attributes.values())) > _MAX_ATTRIBUTE_BYTES:
        raise EventError(
            f"an event has at most {_MAX_ATTRIBUTES} attributes of {_MAX_ATTRIBUTE_BYTES} characters in all"
        )
    for name in _REQUIRED:
        if not attributes.get(name):
            raise EventError(f"the event has no {name}")
    if attributes["specversion"] != SPEC_VERSION:
        raise EventError(f"specversion is {attributes['specversion'][:20]!r}; {SPEC_VERSION} is understood")
    for name, value in attributes.items():
        problem = _problem(name, value)
        if problem:
            raise EventError(problem)


def _problem(name: str, value: str) -> str:
    """What is wrong with an attribute, or an empty text."""
    if _NAME.fullmatch(name) is None or name == "data":
        return f"{name[:64]!r} is no attribute's name: they are of lower-case letters and digits"
    if not value:
        return f"attribute {name} is empty"
    if _FORBIDDEN.search(value):
        return f"attribute {name} has a control character or a code point that is no character"
    if name == "time" and not _is_time(value):
        return f"time is {value[:40]!r}, expected a time such as 2024-01-31T12:00:00Z (RFC 3339)"
    if name == "datacontenttype" and _MEDIA_TYPE.fullmatch(value) is None:
        return f"datacontenttype is {value[:80]!r}, expected a media type such as {JSON}"
    return ""


def _is_time(value: str) -> bool:
    if _TIME.fullmatch(value) is None:
        return False
    try:
        datetime.fromisoformat(value[:19])
    except ValueError:
        return False
    return True


def _check_data(attributes: dict[str, str], data: bytes) -> None:
    """What says that it is JSON must be."""
    if not is_json(_media_type(attributes.get("datacontenttype", ""))):
        return
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise EventError(f"the data is not JSON: {error}") from None


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")

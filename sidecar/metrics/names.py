"""Every metric that the sidecar promises, each defined once, with the text that scrapers and docs show."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.metrics.registry import Registry

DURATION_MS_BOUNDS = (
    *(0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0),
    *(1_000.0, 2_500.0, 5_000.0, 10_000.0, 30_000.0),
)
STORE_SECONDS_BOUNDS = (
    *(0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01),
    *(0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)


class Metrics:
    """The families by name, made in one registry.

    A family is asked for its cell at load, as in ``metrics.retries.labels(outcome="success")``, or is given a
    function that reads the figure at scrape time, as in ``metrics.audit_lag_seconds.value_from(spool.lag)``.
    """

    def __init__(self, registry: Registry, *, version: str) -> None:
        self.registry = registry
        self._define_requests(registry)
        self._define_upstreams(registry)
        self._define_idempotency(registry)
        self._define_messages(registry)
        self._define_process(registry, version)

    def _define_requests(self, registry: Registry) -> None:
        self.http_requests = registry.counter(
            "http_requests_total",
            "Requests answered, by the route's name and the status that the client got.",
            *("service", "method", "route", "status_code"),
        )
        self.http_request_duration = registry.histogram(
            "http_request_duration_ms",
            "Milliseconds from a request's first byte to the end of its response.",
            *("service", "method", "route"),
            bounds=DURATION_MS_BOUNDS,
        )
        self.active_requests = registry.gauge(
            "http_server_active_requests",
            "Requests being handled at the moment.",
            *("service", "route"),
        )

    def _define_upstreams(self, registry: Registry) -> None:
        self.breaker_state = registry.gauge(
            "circuit_breaker_state",
            "State of a host's circuit breaker: 0 closed, 1 half-open, 2 open.",
            *("service", "upstream", "host"),
            rule="max",
        )
        self.breaker_transitions = registry.counter(
            "circuit_breaker_transitions_total",
            "Changes of a circuit breaker's state, by the state entered.",
            *("service", "upstream", "host", "to"),
        )
        self.upstream_attempts = registry.counter(
            "upstream_attempts_total",
            "Attempts to send a request to an upstream, by what came of them.",
            *("upstream", "outcome"),
        )
        self.retries = registry.counter(
            "retries_total", "Attempts after the first of a request, by what came of them.", "outcome"
        )
        self.retry_skipped = registry.counter(
            "retry_skipped_total", "Failed attempts that were not tried again, by the reason.", "reason"
        )
        self.bulkhead_in_use = registry.gauge(
            "bulkhead_in_use",
            "Permits of an upstream's bulkhead that are held at the moment.",
            "upstream",
            rule="max",  # each worker reads the count of all
        )
        self.bulkhead_rejected = registry.counter(
            "bulkhead_rejected_total",
            "Requests refused by an upstream's bulkhead, by the reason.",
            *("upstream", "reason"),
        )

    def _define_idempotency(self, registry: Registry) -> None:
        self.idempotency_requests = registry.counter(
            "idempotency_requests_total",
            "Requests with an idempotency key, or that lack a required one, by what came of the key.",
            *("route", "result"),
        )
        self.idempotency_store_seconds = registry.histogram(
            "idempotency_store_seconds",
            "Seconds that an operation of the idempotency store took.",
            "op",
            bounds=STORE_SECONDS_BOUNDS,
        )

    def _define_messages(self, registry: Registry) -> None:
        self.dlq_depth = registry.gauge(
            "dlq_depth", "Dead letters kept.", *("service", "event_type"), rule="max"
        )
        self.dlq_oldest_age_seconds = registry.gauge(
            "dlq_oldest_age_seconds",
            "Age of the oldest dead letter in seconds.",
            *("service", "event_type"),
            rule="max",
        )
        self.events_published = registry.counter(
            "events_published_total", "Events accepted for publishing, by where they went.", "outcome"
        )
        self.event_deliveries = registry.counter(
            "event_deliveries_total", "Attempts to deliver an event to a subscription.", "outcome"
        )
        self.audit_lag_seconds = registry.gauge(
            "audit_lag_seconds",
            "Age of the oldest audit row that waits to be written, in seconds.",
            rule="max",
        )
        self.audit_spool_depth = registry.gauge(
            "audit_spool_depth", "Audit rows that wait in the local spool.", rule="max"
        )
        self.audit_rejected = registry.counter(
            "audit_rejected_total", "Audited changes without a row, by the reason.", "reason"
        )

    def _define_process(self, registry: Registry, version: str) -> None:
        self.spans_dropped = registry.counter(
            "otel_spans_dropped_total", "Spans given up because the collector was slow, dead or refused them."
        )
        self.spans_exported = registry.counter(
            "otel_spans_exported_total", "Spans that the collector has taken."
        )
        self.log_lines_dropped = registry.counter(
            "log_lines_dropped_total", "Log lines given up because nobody read standard output."
        )
        self.config_reloads = registry.counter(
            "config_reloads_total", "Configurations swapped in while running."
        )
        self.config_reload_failures = registry.counter(
            "config_reload_failures_total", "Configurations refused while running; the old one stayed."
        )
        build = registry.gauge(
            "build_info", "Always 1.", *("service", "version", "python_version"), rule="max"
        ).labels(version=version, python_version=platform.python_version())
        build.value = 1

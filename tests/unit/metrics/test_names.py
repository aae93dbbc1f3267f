"""The promised names, kinds and labels."""

from __future__ import annotations

import math
import platform

import pytest

from sidecar.metrics import Metrics, Registry
from sidecar.metrics.process import define_process_metrics

PROMISED = {
    "http_requests_total": ("counter", ("service", "method", "route", "status_code")),
    "http_request_duration_ms": ("histogram", ("service", "method", "route")),
    "http_server_active_requests": ("gauge", ("service", "route")),
    "circuit_breaker_state": ("gauge", ("service", "upstream", "host")),
    "circuit_breaker_transitions_total": ("counter", ("service", "upstream", "host", "to")),
    "upstream_attempts_total": ("counter", ("upstream", "outcome")),
    "retries_total": ("counter", ("outcome",)),
    "retry_skipped_total": ("counter", ("reason",)),
    "bulkhead_in_use": ("gauge", ("upstream",)),
    "bulkhead_rejected_total": ("counter", ("upstream", "reason")),
    "idempotency_requests_total": ("counter", ("route", "result")),
    "idempotency_store_seconds": ("histogram", ("op",)),
    "dlq_depth": ("gauge", ("service", "event_type")),
    "dlq_oldest_age_seconds": ("gauge", ("service", "event_type")),
    "events_published_total": ("counter", ("outcome",)),
    "event_deliveries_total": ("counter", ("outcome",)),
    "audit_lag_seconds": ("gauge", ()),
    "audit_spool_depth": ("gauge", ()),
    "audit_rejected_total": ("counter", ("reason",)),
    "otel_spans_dropped_total": ("counter", ()),
    "otel_spans_exported_total": ("counter", ()),
    "log_lines_dropped_total": ("counter", ()),
    "config_reloads_total": ("counter", ()),
    "config_reload_failures_total": ("counter", ()),
    "build_info": ("gauge", ("service", "version", "python_version")),
}


@pytest.fixture
def snapshot():
    registry = Registry(service="requests")
    Metrics(registry, version="1.2.3")
    return {family.description.name: family for family in registry.snapshot()}


def test_every_promised_family_is_there_with_its_kind_and_labels(snapshot):
    found = {name: (family.description.kind, family.description.labels) for name, family in snapshot.items()}
    assert found == PROMISED


def test_every_family_says_in_one_sentence_what_it_is(snapshot):
    for family in snapshot.values():
        assert family.description.help[0].isupper()
        assert family.description.help.endswith(".")


def test_build_info_names_the_versions(snapshot):
    assert snapshot["build_info"].samples == {("requests", "1.2.3", platform.python_version()): 1}


def test_the_process_describes_itself():
    registry = Registry(service="s")
    define_process_metrics(registry)
    found = {family.description.name: family.samples.get(()) for family in registry.snapshot()}
    assert found["process_cpu_seconds_total"] > 0
    assert found["process_resident_memory_bytes"] > 1_000_000
    assert found["process_start_time_seconds"] > 1_700_000_000


def test_memory_is_not_a_number_where_the_system_does_not_tell(monkeypatch, tmp_path):
    monkeypatch.setattr("sidecar.metrics.process._STATM", tmp_path / "statm")
    registry = Registry(service="s")
    define_process_metrics(registry)
    found = {family.description.name: family.samples.get(()) for family in registry.snapshot()}
    assert math.isnan(found["process_resident_memory_bytes"])

"""docs/observability.md against the code: no metric, variable or attribute is missing or made up."""

from __future__ import annotations

import re
from pathlib import Path

from sidecar.methods import KNOWN_METHODS
from sidecar.metrics import Metrics, Registry, outcomes
from sidecar.metrics.process import define_process_metrics
from sidecar.retry.policy import Skip
from sidecar.tracing.record import SpanEvent
from tests.unit.log.test_json import ACCESS_FIELDS
from tests.unit.tracing.test_spans import attempt, attributes, decoded, exchange

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "observability.md").read_text()


def table(after):
    """The rows of the first table behind a text, each a list of cells."""
    lines = TEXT.split(after, 1)[1].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|---"))
    rows = []
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def words(cell):
    return tuple(re.findall(r"`([^`]+)`", cell))


def test_every_metric_is_described_with_its_type_and_labels():
    registry = Registry(service="s")
    Metrics(registry, version="1")
    define_process_metrics(registry)
    exposed = {}
    for family in registry.snapshot():
        about = family.description
        exposed[about.name] = (about.kind, about.labels, about.rule)
    described = {
        words(name)[0]: (kind, words(labels), rule) for name, kind, labels, _, rule in table("## Metrics")
    }
    assert described == exposed


def test_every_outcome_is_named():
    meanings = {words(name)[0]: words(meaning) for name, _, _, meaning, _ in table("## Metrics")}
    assert meanings["upstream_attempts_total"] == outcomes.ATTEMPT_OUTCOMES
    assert meanings["retries_total"] == outcomes.RETRY_OUTCOMES
    assert meanings["bulkhead_rejected_total"] == outcomes.REJECTED_BECAUSE
    assert meanings["idempotency_requests_total"] == outcomes.IDEMPOTENCY_RESULTS
    assert meanings["events_published_total"] == outcomes.PUBLISH_OUTCOMES
    assert meanings["event_deliveries_total"] == outcomes.DELIVERY_OUTCOMES
    assert meanings["retry_skipped_total"] == tuple(Skip)


def test_every_method_is_named():
    assert all(f"`{name}`" in TEXT for name in KNOWN_METHODS.values())


def test_every_span_attribute_is_described():
    record = exchange(
        method=b"ODD",
        target=b"/a?b=c",
        status=503,
        reason="circuit_open",
        authority=b"svc:80",
        client="10.0.0.1",
        user_agent=b"curl",
        idempotency="executed",
        retry_skipped="budget",
    )
    record.events.append(SpanEvent(1, "retry"))
    record.attempts += [attempt(record), attempt(record, status=503)]
    server, *clients = decoded(record)
    assert {word for row in table("**SERVER**") for word in words(row[0])} == attributes(server).keys()
    shown = {name for client in clients for name in attributes(client)}
    assert {word for row in table("**CLIENT**") for word in words(row[0])} == shown


def test_every_log_member_is_described():
    described = {word for row in table("## Logs") for word in words(row[0])}
    assert described >= ACCESS_FIELDS
    others = {"error", "traceback", "logger", "message"}
    changes = {"who", "peer", "what", "why"}
    assert described - ACCESS_FIELDS == others | changes


def test_every_variable_that_is_read_is_described():
    read = set()
    for folder in ("otlp", "tracing", "metrics"):
        for path in (ROOT / "sidecar" / folder).rglob("*.py"):
            read |= set(re.findall(r'"(OTEL_[A-Z_]+[A-Z])"', path.read_text()))
    assert read
    assert {name for name in read if f"`{name}`" not in TEXT} == set()

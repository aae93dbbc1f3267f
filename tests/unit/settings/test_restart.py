from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.settings.addresses import Address
from sidecar.settings.model import Admin, Log, Metrics, Settings, Spool, Tracing
from sidecar.settings.restart import FIXED, RestartNeeded, check_reloadable

OLD = Settings()


@pytest.mark.parametrize(
    ("key", "changed"),
    [
        ("service", {"service": "other"}),
        ("store", {"store": "redis://:hunter2@localhost"}),
        ("store_timeout", {"store_timeout": 2.0}),
        ("database", {"database": "postgresql://localhost/x"}),
        ("workers", {"workers": 2}),
        ("admin.bind", {"admin": Admin(bind=Address(host="127.0.0.1", port=1))}),
        ("metrics", {"metrics": Metrics(bind=Address(host="127.0.0.1", port=1))}),
        ("log.format", {"log": Log(format="console")}),
        ("spool", {"spool": Spool(dir="/var/spool")}),
    ],
)
def test_what_needs_a_restart_is_refused_by_name_and_without_its_value(key, changed):
    assert key in FIXED
    with pytest.raises(RestartNeeded) as caught:
        check_reloadable(OLD, replace(OLD, **changed), can_trace=True)
    (mistake,) = caught.value.mistakes
    assert mistake.startswith(f"{key}: ")
    assert "restart" in mistake
    assert "hunter2" not in mistake


def test_every_such_key_is_told_at_once():
    with pytest.raises(RestartNeeded) as caught:
        check_reloadable(OLD, replace(OLD, workers=2, service="x"), can_trace=True)
    assert len(caught.value.mistakes) == 2


def test_everything_else_is_taken_over():
    new = replace(OLD, log=Log(level="debug"), drain_timeout=1.0, admin=replace(OLD.admin, token="new"))
    check_reloadable(OLD, new, can_trace=True)


def test_tracing_is_turned_on_only_where_spans_can_go_somewhere():
    off, on = replace(OLD, tracing=Tracing(sample=0.0)), replace(OLD, tracing=Tracing(sample=1.0))
    check_reloadable(off, on, can_trace=True)
    check_reloadable(on, off, can_trace=False)
    with pytest.raises(RestartNeeded, match=r"tracing\.sample"):
        check_reloadable(off, on, can_trace=False)

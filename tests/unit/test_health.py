from __future__ import annotations

import pytest

from sidecar.health import Health


@pytest.mark.parametrize(
    ("checks", "verdicts"),
    [
        ("++++", "++++"),
        ("--+--", "+++++"),
        ("---", "++-"),
        ("---+-+", "++----"),
        ("---++-", "++--++"),
    ],
)
def test_a_verdict_changes_only_after_several_checks_in_a_row(checks, verdicts):
    health = Health()
    seen = []
    for check in checks:
        before = health.healthy
        changed = health.record(passed=check == "+")
        assert changed == (health.healthy != before)
        seen.append("+" if health.healthy else "-")
    assert "".join(seen) == verdicts


def test_a_verdict_can_be_read():
    health = Health()
    assert repr(health) == "<Health good>"
    for _ in range(3):
        health.record(passed=False)
    assert repr(health) == "<Health bad>"

from __future__ import annotations

from sidecar.load import Connections, Load


def test_loads_add_up():
    one = Load(1, 2, 3, {("app", "a:1"): Connections(4, 1), ("app", "b:1"): Connections(1, 0)})
    other = Load(10, 20, 30, {("app", "a:1"): Connections(2, 2), ("pay", "c:1"): Connections(1, 1)})
    assert one + other == Load(
        11,
        22,
        33,
        {
            ("app", "a:1"): Connections(6, 3),
            ("app", "b:1"): Connections(1, 0),
            ("pay", "c:1"): Connections(1, 1),
        },
    )
    assert one.connections["app", "a:1"] == Connections(4, 1)

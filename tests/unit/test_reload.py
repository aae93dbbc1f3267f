"""What keeps a sidecar listening to those who want it to reload."""

import asyncio
import types

from sidecar.metrics.names import Metrics
from sidecar.metrics.registry import Registry
from sidecar.reload import Reloader


class Told:
    """A log of what went wrong."""

    def __init__(self):
        self.crashes = []
        self.crashed = asyncio.Event()
        self.reloaded = asyncio.Event()

    def crash(self, event, error, **_fields):
        self.crashes.append((event, error))
        self.crashed.set()

    def info(self, event, **_fields):
        assert event == "reloaded"
        self.reloaded.set()


async def test_a_fault_of_our_own_in_one_reload_does_not_end_the_wait_for_the_next():
    metrics, log, applied = Metrics(Registry(service="s"), version="1"), Told(), []

    async def recompile():
        return types.SimpleNamespace()

    async def apply(settings):
        applied.append(settings)
        if len(applied) == 1:
            raise RuntimeError("nobody foresaw this")

    recompile.file = None
    reloader = Reloader(recompile, apply, log, metrics)
    reloader.start()
    try:
        reloader.request()
        await log.crashed.wait()
        reloader.request()
        await log.reloaded.wait()
    finally:
        await reloader.close()
    assert len(applied) == 2
    assert [(event, str(error)) for event, error in log.crashes] == [("reload failed", "nobody foresaw this")]
    assert metrics.config_reload_failures.labels().value == 1

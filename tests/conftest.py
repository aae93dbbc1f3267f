"""Fixtures for tests that drive real processes.

What is expensive and keeps no state between tests lives as long as the test process (with pytest-xdist, each
worker has its own); a sidecar with a configuration of its own lives as long as its test.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.support import services
from tests.support.certificates import Authority
from tests.support.sidecar import Config, Sidecar, config_for
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

# Whoever wants no byte code beside the sources would otherwise have each of many hundred processes compile
# all its modules again.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    elsewhere = Path(tempfile.gettempdir()) / f"sidecar-test-bytecode-{os.getuid()}"
    os.environ.setdefault("PYTHONPYCACHEPREFIX", str(elsewhere))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let ``--dist loadgroup`` group.

    pytest-xdist 3.8 adds a test's group to the attribute that held its id before pytest 9.2, and says nothing
    where that is not read: tests that share a fixture ran in all workers, each with a fixture of its own.
    """
    for item in items:
        grouped = getattr(item, "_nodeid", item.nodeid)
        if grouped != item.nodeid:
            item._id = type(item._id).parse(grouped)


class StartSidecar(Protocol):
    """Starts sidecars that are stopped, and checked, when the test ends."""

    def __call__(self, config: Config | None, **options: Any) -> Sidecar:
        """Start one with a configuration; ``options`` are those of :class:`Sidecar`."""
        ...


@pytest.fixture
def start_sidecar(tmp_path_factory) -> Iterator[StartSidecar]:
    with ExitStack() as stack:

        def start(config: Config | None, **options: Any) -> Sidecar:
            sidecar = Sidecar(config, tmp_path_factory.mktemp("sidecar"), **options)
            return stack.enter_context(closing(sidecar))

        yield start


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


@pytest.fixture
def sidecar(start_sidecar: StartSidecar, upstream: Upstream) -> Sidecar:
    """A sidecar with the default settings before ``upstream``."""
    return start_sidecar(config_for(upstream.url))


@pytest.fixture(scope="session")
def httpbin() -> Iterator[services.Service]:
    with closing(services.httpbin()) as service:
        yield service


@pytest.fixture(scope="session")
def websocket_echo() -> Iterator[services.Service]:
    with closing(services.websocket_echo()) as service:
        yield service


@pytest.fixture(scope="session")
def event_source() -> Iterator[services.Service]:
    with closing(services.event_source()) as service:
        yield service


@pytest.fixture(scope="session")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))

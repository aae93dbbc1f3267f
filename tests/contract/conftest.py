"""Stores are tested on the event loop that the sidecar runs on, against every kind of server."""

from contextlib import closing

import pytest
import uvloop

from tests.contract.redis_servers import KINDS, Cluster, Server

STORES = ["memory", *KINDS, *(f"{kind}-cluster" for kind in KINDS)]


def pytest_asyncio_loop_factories(config, item):
    return {"uvloop": uvloop.new_event_loop}


# A cluster takes seconds to become whole: each is started once, for all suites, in one of the workers.
@pytest.fixture(
    scope="session", params=[pytest.param(store, marks=pytest.mark.xdist_group(store)) for store in STORES]
)
def server(request, tmp_path_factory):
    """A server that no test changes for the others, or nothing for what lives in memory."""
    kind, _, cluster = request.param.partition("-")
    if kind == "memory":
        yield None
        return
    folder = tmp_path_factory.mktemp(request.param)
    with closing(Cluster(kind, folder) if cluster else Server(kind, folder)) as server:
        yield server

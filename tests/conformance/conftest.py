"""One sidecar and one upstream for all vectors of a test process: each must leave both fit for the next."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.support.raw import Client, error_of
from tests.support.sidecar import Sidecar
from tests.support.upstream import OK, Connection, Handler, Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.messages import Request, Response

CODES = {
    400: "BAD_REQUEST",
    413: "BODY_TOO_LARGE",
    414: "URI_TOO_LONG",
    431: "HEADERS_TOO_LARGE",
    501: "NOT_IMPLEMENTED",
}

# Neither retries nor an open breaker may come between a vector and what it shows.
_UPSTREAM = {
    "retry": {"max_attempts": 1},
    "breaker": {"failure_threshold": 1_000_000, "minimum_calls": 1_000_000},
}


class Rig:
    """The pair, and what is checked about it after every vector."""

    def __init__(self, sidecar: Sidecar, upstream: Upstream) -> None:
        self.sidecar = sidecar
        self.upstream = upstream
        self.sentinels = 0

    def client(self) -> Client:
        """A fresh connection to the sidecar."""
        return self.sidecar.client(timeout=8)

    def record(self) -> list[Request]:
        """From now on, the requests that the upstream has read whole and answered."""
        seen: list[Request] = []

        def answer(connection: Connection, request: Request) -> None:
            connection.read_body(request)
            seen.append(request)
            connection.send(OK)

        self.upstream.reply = answer
        return seen

    def answer_with(self, handler: Handler) -> None:
        """How the upstream answers requests for ``/answer``."""
        self.upstream.replies["/answer"] = handler

    def used_connection(self) -> Connection:
        """The upstream's connection that the latest request for ``/answer`` came on."""
        return self.upstream.connection_of(self.upstream.on("/answer")[-1])

    def sentinel(self) -> bytes:
        """Send an ordinary request, which must be answered as ever; its path."""
        self.sentinels += 1
        path = f"/sentinel/{self.sentinels}"
        with self.client() as client:
            response = client.request("GET", path)
            assert (response.status, response.body) == (200, b"ok")
        return path.encode()

    def assert_nothing_reached_upstream(self, mark: list[int], before: int = 0) -> None:
        """After ``mark``, the upstream has received ``before`` requests, the next sentinel, and nothing else.

        The sentinel comes last, on whatever connection: octets that slipped through would stand before it.
        """
        path = self.sentinel()
        news = b"".join(self.upstream.since(mark))
        assert news.count(b"GET " + path + b" HTTP/1.1\r\n") == 1
        assert news.count(b" HTTP/1.1\r\n") == before + 1, news
        assert news.count(b"\r\n\r\n") == before + 1, news
        assert news.startswith(b"GET "), news
        assert news.endswith(b"\r\n\r\n"), news

    def assert_one_log_line(self, response: Response, start: int) -> None:
        """Exactly one log line since line ``start`` is about this refused request, and says why."""
        correlation_id = error_of(response)["correlation_id"]
        self.sidecar.wait_log(
            lambda line: line.get("path") == f"/sentinel/{self.sentinels}", "the sentinel", start=start
        )
        lines = [line for line in self.sidecar.logs(start) if line.get("correlation_id") == correlation_id]
        assert len(lines) == 1, lines
        assert lines[0]["status"] == response.status
        assert lines[0]["reason"], lines


@pytest.fixture(scope="session")
def shared_rig(tmp_path_factory) -> Iterator[Rig]:
    with Upstream() as upstream:
        config = {"upstreams": {"app": {"url": upstream.url, **_UPSTREAM}}}
        with closing(Sidecar(config, tmp_path_factory.mktemp("conformance"))) as sidecar:
            yield Rig(sidecar, upstream)


@pytest.fixture
def rig(shared_rig: Rig) -> Rig:
    shared_rig.upstream.forget()
    return shared_rig

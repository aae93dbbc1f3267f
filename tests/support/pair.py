"""A sidecar and the upstream behind it, for the tests of one file to share."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, Self

from tests.support.sidecar import Config, Sidecar
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from tests.support.messages import Response
    from tests.support.raw import Client

STEADY: Config = {
    "retry": {"max_attempts": 1},
    "breaker": {"failure_threshold": 1_000_000, "minimum_calls": 1_000_000},
}
"""Settings of an upstream whose failures lead to nothing: neither retries nor an open breaker."""


class Pair:
    """A scripted upstream and a sidecar before it; both must be fit for the next test after each.

    Args:
        folder: For the sidecar's files.
        upstreams: Settings by name, ``url`` added to those without ``urls``: all of them are the one
            scripted upstream. Requests for ``/NAME/…`` go to the upstream ``NAME``, all others to ``app``.
        routes: Instead of those.
        env: Variables for the sidecar.
        sections: Further sections of the configuration.
    """

    def __init__(
        self,
        folder: Path,
        upstreams: dict[str, Config] | None = None,
        routes: list[Config] | None = None,
        *,
        env: dict[str, str] | None = None,
        **sections: Any,
    ) -> None:
        self._stack = ExitStack()
        self.upstream = self._stack.enter_context(Upstream())
        wanted = {"app": STEADY, **(upstreams or {})}
        placed = {
            name: settings if "urls" in settings else {"url": self.upstream.url, **settings}
            for name, settings in wanted.items()
        }
        by_name = [
            {"name": name, "match": {"prefix": f"/{name}"}, "upstream": name}
            for name in placed
            if name != "app"
        ]
        everything = {"name": "default", "match": {"prefix": "/"}, "upstream": "app"}
        config = {"upstreams": placed, "routes": routes or [*by_name, everything], **sections}
        try:
            self.sidecar = self._stack.enter_context(closing(Sidecar(config, folder, env=env)))
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def client(self, **options: Any) -> Client:
        """A fresh connection to the sidecar."""
        return self.sidecar.client(**options)

    def request(
        self, method: str, target: str, *fields: str, body: bytes | None = None, host: str = "test"
    ) -> Response:
        """One request on a connection of its own."""
        with self.client() as client:
            return client.request(method, target, *fields, body=body, host=host)

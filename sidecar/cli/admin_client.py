"""A small client of the admin port, for the commands that operate a running sidecar."""

from __future__ import annotations

import http.client
import json
import socket
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote, urlencode, urlsplit

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Admin = Annotated[
    str,
    typer.Option(
        "--admin", metavar="URL", help="The sidecar's admin port: http://HOST:PORT, HOST:PORT or unix:PATH."
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token", metavar="TOKEN", envvar="SIDECAR_ADMIN_TOKEN", help="Its token, where one is set."
    ),
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is logged.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]

DEFAULT_ADMIN: Final = "http://127.0.0.1:9901"
REFUSED: Final = 1
"""Exit code where the sidecar says no."""
UNREACHABLE: Final = 2
"""Exit code where there is no sidecar to ask."""

_TIMEOUT: Final = 90.0  # a dead letter that is retried may take as long as its upstream has


class RefusedError(Exception):
    """The sidecar has answered with an error.

    Attributes:
        status: HTTP status of the answer.
        details: The members of its ``error`` object.
    """

    def __init__(self, status: int, details: Mapping[str, Any]) -> None:
        super().__init__(str(details.get("message") or f"the admin port answered {status}"))
        self.status = status
        self.details = details


class UnreachableError(Exception):
    """Nobody answers at the address, or it is no sidecar that does."""


class AdminClient:
    """Calls one admin port.

    Args:
        url: ``http://HOST:PORT``, ``https://HOST:PORT``, ``HOST:PORT`` or ``unix:PATH``.
        token: Its token, or ``None``.

    Raises:
        typer.BadParameter: ``url`` is none of these.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self._url = url
        self._unix = url.removeprefix("unix:").removeprefix("//") if url.startswith("unix:") else ""
        self._host, self._port, self._tls, self._base = "", None, False, ""
        if not self._unix:
            self._host, self._port, self._tls, self._base = _parts_of(url)
        self._headers = {"Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def call(
        self,
        method: str,
        *path: str,
        content: Mapping[str, Any] | None = None,
        query: Mapping[str, str | int | None] | None = None,
    ) -> Any:
        """The decoded JSON of an answer.

        Args:
            method: The call's method.
            path: Its segments, as they are: ``"admin", "dlq", event_type``.
            content: What is sent as JSON.
            query: Parameters; those that are ``None`` are left out.

        Raises:
            RefusedError: The sidecar says no.
            UnreachableError: No sidecar answers.
        """
        with self._answer(method, path, content, query, self._headers) as response:
            body = response.read()
        try:
            return json.loads(body)
        except ValueError:
            raise UnreachableError(f"what answers at {self._url} is no sidecar's admin port") from None

    def events(
        self,
        method: str,
        *path: str,
        content: Mapping[str, Any] | None = None,
        query: Mapping[str, str | int | None] | None = None,
    ) -> Iterator[Any]:
        """The decoded data of each server-sent event, as it comes; the arguments are those of :meth:`call`.

        Raises:
            RefusedError: The sidecar says no.
            UnreachableError: No sidecar answers, or it went away in the middle.
        """
        headers = {**self._headers, "Accept": "text/event-stream"}
        with self._answer(method, path, content, query, headers) as response:
            for line in response:
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])

    @contextmanager
    def _answer(
        self,
        method: str,
        path: tuple[str, ...],
        content: Mapping[str, Any] | None,
        query: Mapping[str, str | int | None] | None,
        headers: dict[str, str],
    ) -> Iterator[http.client.HTTPResponse]:
        target = f"{self._base}/{'/'.join(quote(segment, safe='') for segment in path)}"
        given = {name: value for name, value in (query or {}).items() if value is not None}
        if given:
            target += f"?{urlencode(given)}"
        body = None
        if content is not None:
            headers = {**headers, "Content-Type": "application/json"}
            body = json.dumps(content).encode()
        with closing(self._connection()) as connection:
            try:
                connection.request(method, target, body, headers)
                response = connection.getresponse()
                if response.status >= 400:  # noqa: PLR2004 - RFC 9110, section 15.5
                    raise RefusedError(response.status, _error_in(response.read()))
                yield response
            except (OSError, http.client.HTTPException) as error:
                raise UnreachableError(f"no sidecar answers at {self._url}: {error}") from error

    def _connection(self) -> http.client.HTTPConnection:
        if self._unix:
            return _UnixConnection(self._unix)
        kind = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=_TIMEOUT)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@contextmanager
def failures_told() -> Iterator[None]:
    """End the command with a message where the sidecar says no (exit code 1) or is not there (2)."""
    try:
        yield
    except RefusedError as refused:
        print(f"refused ({refused.status}): {refused}", file=sys.stderr)
        for mistake in refused.details.get("mistakes", ()):
            print(f"  {mistake}", file=sys.stderr)
        sys.exit(REFUSED)
    except UnreachableError as unreachable:
        print(unreachable, file=sys.stderr)
        sys.exit(UNREACHABLE)


def _parts_of(url: str) -> tuple[str, int | None, bool, str]:
    """Host, port, whether it is TLS, and the path below which the port is."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.hostname and parts.scheme in {"http", "https"}:
            return parts.hostname, parts.port, parts.scheme == "https", parts.path.rstrip("/")
    except ValueError:
        pass  # told below
    raise typer.BadParameter(f"{url!r} is no admin port: expected http://HOST:PORT or unix:PATH")


def _error_in(body: bytes) -> Mapping[str, Any]:
    try:
        details = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return {}
    return details if isinstance(details, dict) else {}

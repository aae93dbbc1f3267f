"""OTLP over HTTP: a POST per request on a connection that is kept."""

from __future__ import annotations

import gzip
import socket
import ssl
from base64 import b64encode
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from sidecar.log import mask_url
from sidecar.otlp.sender import Rejected, Unavailable

if TYPE_CHECKING:
    from sidecar.otlp.target import Target

# OTLP, section "Failures": these may be tried again, all others may not.
_RETRYABLE: Final = frozenset({429, 502, 503, 504})
_MAX_RESPONSE: Final = 65_536
_SEND_BUFFER: Final = 1 << 20
_MAX_RETRY_AFTER: Final = 300.0


class HttpSender:
    """Sends to one URL.

    Raises:
        ValueError: A certificate's file cannot be read.
    """

    def __init__(self, target: Target) -> None:
        parts = urlsplit(target.url)
        self._target = target
        self._host = parts.hostname or ""
        self._port = parts.port
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._headers = {
            "Content-Type": "application/x-protobuf",
            "User-Agent": "sidecar-otlp-exporter",
            **({"Content-Encoding": "gzip"} if target.gzip else {}),
            **_basic_auth(parts.username, parts.password),
            **target.headers,
        }
        self._tls = _tls_context(target) if parts.scheme == "https" else None
        self._connection: HTTPConnection | None = None

    def send(self, body: bytes) -> bytes:
        """POST ``body``. A kept connection that the collector has closed meanwhile is replaced once."""
        if self._target.gzip:
            body = gzip.compress(body, compresslevel=1)
        reused = self._connection is not None
        try:
            response = self._post(body)
        except (OSError, HTTPException) as error:
            self.close()
            if not reused or isinstance(error, TimeoutError):
                raise Unavailable(self._describe(error)) from error
            response = self._post_again(body)
        return self._judge(response)

    def _post_again(self, body: bytes) -> HTTPResponse:
        try:
            return self._post(body)
        except (OSError, HTTPException) as error:
            self.close()
            raise Unavailable(self._describe(error)) from error

    def _post(self, body: bytes) -> HTTPResponse:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._connect()
        connection.request("POST", self._path, body, self._headers)
        return connection.getresponse()

    def _connect(self) -> HTTPConnection:
        timeout = self._target.timeout
        if self._tls is None:
            connection = HTTPConnection(self._host, self._port, timeout=timeout)
        else:
            connection = HTTPSConnection(self._host, self._port, timeout=timeout, context=self._tls)
        connection.connect()
        # A batch goes to the kernel in one call: after each the interpreter must be won back from the loop.
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        return connection

    def _judge(self, response: HTTPResponse) -> bytes:
        try:
            body = response.read(_MAX_RESPONSE)
        except (OSError, HTTPException) as error:
            self.close()
            raise Unavailable(self._describe(error)) from error
        if response.will_close or not response.isclosed():
            self.close()
        if 200 <= response.status < 300:  # noqa: PLR2004 - the class of success, RFC 9110, section 15
            return body
        text = f"{mask_url(self._target.url)} answered {response.status} {response.reason}"
        if response.status in _RETRYABLE:
            raise Unavailable(text, _retry_after(response.getheader("Retry-After", "")))
        raise Rejected(text)

    def _describe(self, error: Exception) -> str:
        return f"{mask_url(self._target.url)}: {error or type(error).__name__}"

    def close(self) -> None:
        """Close the connection; the next send opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _tls_context(target: Target) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=target.certificate or None)
        if target.client_certificate:
            context.load_cert_chain(target.client_certificate, target.client_key or None)
    except OSError as error:
        raise ValueError(f"a certificate of the OTLP endpoint cannot be used: {error}") from error
    return context


def _basic_auth(user: str | None, password: str | None) -> dict[str, str]:
    if user is None:
        return {}
    credentials = f"{unquote(user)}:{unquote(password or '')}".encode()
    return {"Authorization": f"Basic {b64encode(credentials).decode()}"}


def _retry_after(value: str) -> float | None:
    """Seconds from ``Retry-After``; a date is not worth parsing here, the usual backoff does."""
    return min(float(value), _MAX_RETRY_AFTER) if value.isascii() and value.isdigit() else None

"""Where the sidecar listens and where it connects to, parsed once when the configuration is loaded."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from sidecar.settings.units import quote

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HIGHEST_PORT = 65535
# RFC 1123 labels, and the underscore that Docker Compose service names carry.
_HOST_NAME = r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
# sun_path holds 108 bytes on Linux and 104 on macOS, the closing NUL included.
_LONGEST_SOCKET_PATH = 103


@dataclass(frozen=True, slots=True)
class Address:
    """A place to listen on: ``HOST:PORT`` or ``unix:PATH``.

    Attributes:
        host: IP address or name, without brackets; empty for a Unix socket.
        port: 0 to 65535 (0: the system picks one); 0 for a Unix socket.
        unix: Path of the Unix socket, or empty.
    """

    host: str = ""
    port: int = 0
    unix: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address written in ``text``.

        Raises:
            ValueError: It is neither ``HOST:PORT``, ``[IPV6]:PORT`` nor ``unix:PATH``.
        """
        if text.startswith("unix:"):
            return cls(unix=_socket_path(text))
        host, colon, port = text.rpartition(":")
        if not colon:
            raise ValueError(f"expected HOST:PORT or unix:PATH, got {quote(text)}")
        return cls(host=_host(host, text), port=_port(port, text))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the address."""
        if self.unix or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        if self.unix:
            return f"unix:{self.unix}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UpstreamUrl:
    """One host of an upstream: ``http://HOST[:PORT]``, ``https://HOST[:PORT]`` or ``unix:PATH``.

    Attributes:
        scheme: ``http``, ``https`` or ``unix`` (plain HTTP over a Unix socket).
        host: IP address or name in lower case, without brackets; empty for a Unix socket.
        port: 1 to 65535, the scheme's own where the URL names none; 0 for a Unix socket.
        unix: Path of the Unix socket, or empty.
    """

    scheme: str
    host: str = ""
    port: int = 0
    unix: str = ""

    @classmethod
    def parse(cls, text: str) -> UpstreamUrl:
        """The host written in ``text``.

        Raises:
            ValueError: It is no such URL, or carries what an upstream cannot have (user, path, query).
        """
        if text.startswith("unix:"):
            return cls(scheme="unix", unix=_socket_path(text))
        scheme, separator, _ = text.partition("://")
        if not separator or scheme.lower() not in _DEFAULT_PORTS:
            raise ValueError(f"expected http://HOST:PORT, https://HOST:PORT or unix:PATH, got {quote(text)}")
        return cls._of_network(text, scheme.lower())

    @classmethod
    def _of_network(cls, text: str, scheme: str) -> UpstreamUrl:
        try:
            parts = urlsplit(text)
        except ValueError:
            raise ValueError(f"not a URL: {quote(text)}") from None
        if "@" in parts.netloc:
            raise ValueError(
                "an upstream's URL carries no user or password; let the client send Authorization"
            )
        if parts.path not in {"", "/"} or parts.query or parts.fragment:
            raise ValueError(
                f"an upstream's URL ends after the port (paths pass through as they are): {quote(text)}"
            )
        host, colon, port = parts.netloc.rpartition(":")
        if not colon or port.endswith("]"):
            host, port = parts.netloc, str(_DEFAULT_PORTS[scheme])
        number = _port(port, text)
        if number == 0:
            raise ValueError(f"an upstream's port lies between 1 and {_HIGHEST_PORT}, got 0")
        return cls(scheme=scheme, host=_host(host, text).lower(), port=number)

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme == "https"

    def __str__(self) -> str:
        if self.unix:
            return f"unix:{self.unix}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def _host(host: str, text: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise ValueError(f"{quote(host)} is not an IPv6 address, in {quote(text)}") from None
    if ":" in host:
        raise ValueError(f"an IPv6 address stands in brackets, as [::1]:8080; got {quote(text)}")
    if not re.fullmatch(_HOST_NAME, host):
        raise ValueError(f"{quote(host)} is not a host name or IP address, in {quote(text)}")
    return host


def _port(port: str, text: str) -> int:
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= _HIGHEST_PORT):  # noqa: PLR2004
        raise ValueError(f"a port is a number from 0 to {_HIGHEST_PORT}, got {quote(port)} in {quote(text)}")
    return int(port)


def _socket_path(text: str) -> str:
    path = text.removeprefix("unix:").removeprefix("//")
    if not path or "\0" in path:
        raise ValueError(f"expected unix:PATH, got {quote(text)}")
    if len(path.encode()) > _LONGEST_SOCKET_PATH:
        raise ValueError(
            f"the path of a Unix socket has at most {_LONGEST_SOCKET_PATH} bytes, got {quote(text)}"
        )
    return path

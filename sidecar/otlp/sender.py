"""Carries encoded requests to a collector, one at a time, from a thread that may block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from sidecar.otlp.target import Target

Service = Literal["TraceService", "MetricsService"]


class Unavailable(Exception):  # noqa: N818 - what the collector is
    """The collector could not take the request now; another try may succeed.

    Attributes:
        retry_after: Seconds that the collector asks to wait, or ``None``.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Rejected(Exception):  # noqa: N818 - what became of the request
    """The collector refused the request; another try would end the same."""


class Sender(Protocol):
    """A connection to a collector. Used by one thread."""

    def send(self, body: bytes) -> bytes:
        """Send an encoded ``Export…ServiceRequest``; the encoded response.

        Raises:
            Unavailable: See there.
            Rejected: See there.
        """
        ...

    def close(self) -> None:
        """Give the connection up."""
        ...


def open_sender(target: Target, service: Service) -> Sender:
    """A sender for ``target``; connects when it first sends.

    Raises:
        ValueError: The target needs gRPC, and the extra ``grpc`` is not installed; or a certificate's file
            cannot be read.
    """
    if not target.grpc:
        from sidecar.otlp.http import HttpSender  # noqa: PLC0415 - http.client only where it is used

        return HttpSender(target)
    try:
        from sidecar.otlp.grpc import GrpcSender  # noqa: PLC0415 - part of an extra
    except ImportError as error:
        raise ValueError("OTLP over gRPC needs the extra: pip install 'sidecar-proxy[grpc]'") from error
    return GrpcSender(target, service)

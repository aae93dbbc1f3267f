"""OTLP over gRPC, part of the extra ``grpc``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import grpc

from sidecar.otlp.sender import Rejected, Unavailable

if TYPE_CHECKING:
    from sidecar.otlp.sender import Service
    from sidecar.otlp.target import Target

_METHODS: Final = {
    "TraceService": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "MetricsService": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}
_DEFAULT_PORT: Final = 4317

# OTLP, section "Failures" of OTLP/gRPC.
_RETRYABLE: Final = frozenset(
    {
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
    }
)


class GrpcSender:
    """Calls ``Export`` with bytes that are encoded already.

    Raises:
        ValueError: A certificate's file cannot be read.
    """

    def __init__(self, target: Target, service: Service) -> None:
        parts = urlsplit(target.url)
        address = f"{parts.hostname}:{parts.port or _DEFAULT_PORT}"
        compression = grpc.Compression.Gzip if target.gzip else grpc.Compression.NoCompression
        if parts.scheme == "https":
            self._channel = grpc.secure_channel(address, _credentials(target), compression=compression)
        else:
            self._channel = grpc.insecure_channel(address, compression=compression)
        self._export: Any = self._channel.unary_unary(_METHODS[service])
        self._timeout = target.timeout
        self._metadata = tuple((name.lower(), value) for name, value in target.headers.items())

    def send(self, body: bytes) -> bytes:
        """Call ``Export`` with ``body``."""
        try:
            answer: bytes = self._export(body, timeout=self._timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            kind = Unavailable if error.code() in _RETRYABLE else Rejected
            raise kind(f"{error.code().name}: {error.details()}") from error
        return answer

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


def _credentials(target: Target) -> grpc.ChannelCredentials:
    files = (target.certificate, target.client_key, target.client_certificate)
    try:
        roots, key, chain = (Path(file).read_bytes() if file else None for file in files)
    except OSError as error:
        raise ValueError(f"a certificate of the OTLP endpoint cannot be used: {error}") from error
    return grpc.ssl_channel_credentials(roots, key, chain)

"""TLS contexts as the configuration describes them."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.settings import model


def client_context(tls: model.UpstreamTls) -> ssl.SSLContext:
    """The TLS context of connections to an upstream.

    Raises:
        OSError: A file cannot be read, or is no certificate or key (:class:`ssl.SSLError`).
    """
    context = ssl.create_default_context(cafile=tls.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert is not None:
        context.load_cert_chain(tls.cert, tls.key)
    return context


def server_context(tls: model.ListenerTls) -> ssl.SSLContext:
    """The TLS context of a listener.

    Raises:
        OSError: A file cannot be read, or is no certificate or key (:class:`ssl.SSLError`).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(tls.cert, tls.key)
    if tls.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(tls.client_ca)
    return context

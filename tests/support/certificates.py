"""Certificates of an authority that exists for one test run."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from pathlib import Path


class Authority:
    """An authority, a certificate for ``localhost`` and 127.0.0.1, and one for a client."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(self.ca)
        self.cert, self.key, self._server = self._issue(folder, "server", "localhost", "127.0.0.1")
        self.client_cert, self.client_key, self._client = self._issue(folder, "client", "client.test")

    def _issue(self, folder: Path, name: str, *identities: str) -> tuple[Path, Path, trustme.LeafCert]:
        issued = self._authority.issue_cert(*identities)
        cert, key = folder / f"{name}.pem", folder / f"{name}.key"
        for number, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(cert, append=number > 0)
        issued.private_key_pem.write_to_path(key)
        return cert, key, issued

    def server_context(self, *, ask_client: bool = False) -> ssl.SSLContext:
        """For a server on ``localhost``; with ``ask_client`` it demands a client certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server.configure_cert(context)
        if ask_client:
            self._authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def misnamed_context(self) -> ssl.SSLContext:
        """For a server whose certificate is good, but is not made out to ``localhost``."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._client.configure_cert(context)
        return context

    def client_context(self, *, with_cert: bool = False) -> ssl.SSLContext:
        """For a client that trusts this authority alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._authority.configure_trust(context)
        if with_cert:
            self._client.configure_cert(context)
        return context

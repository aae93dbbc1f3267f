"""The request methods that labels and span names may show; strangers may send any other."""

from __future__ import annotations

from typing import Final

OTHER: Final = "_OTHER"
"""Stands for every method that is not known, as in OpenTelemetry's ``http.request.method``."""

KNOWN_METHODS: Final = {
    name.encode(): name
    for name in ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE")
}
"""By their bytes on the wire; methods are case-sensitive (RFC 9110, section 9.1)."""

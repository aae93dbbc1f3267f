"""Structured logs that never hold up the event loop."""

from __future__ import annotations

from sidecar.log.masking import mask_header, mask_query, mask_url
from sidecar.log.stdlib import capture_stdlib
from sidecar.log.writer import LEVELS, Log

__all__ = ["LEVELS", "Log", "capture_stdlib", "mask_header", "mask_query", "mask_url"]

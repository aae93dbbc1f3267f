"""Correlation ids: one name for everything that one request sets off, in every service it touches."""

from __future__ import annotations

from sidecar.correlation.core import choose, is_valid
from sidecar.correlation.current import current_correlation_id

__all__ = ["choose", "current_correlation_id", "is_valid"]

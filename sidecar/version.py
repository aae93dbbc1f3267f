"""The version, where reading it costs nothing: the packaging reads it from here as well."""

from __future__ import annotations

VERSION = "0.1.0"

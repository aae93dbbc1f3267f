"""``sidecar demo``: an example service, the sidecar before it, and traffic that shows what it does."""

from __future__ import annotations

__all__ = ["run_demo"]

from sidecar.demo.run import run_demo

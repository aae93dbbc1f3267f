"""The port for operators and scrapers.

aiohttp's package imports its client, which is never used here: 30 ms of CPU and 2 MiB, and as much again when
it reads the system's certificate authorities. So its server is imported into the package before the package's
own code has run. That runs once somebody asks for what it defines.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec, module_from_spec
from typing import Any


def _import_server() -> None:
    """Import ``aiohttp.web`` without ``aiohttp.client``, if nobody has imported either yet."""
    spec = None if "aiohttp" in sys.modules else find_spec("aiohttp")
    if spec is None:
        return
    package = module_from_spec(spec)
    # The server tells it to nobody but those whose requests are malformed; they need not know.
    vars(package)["__version__"] = ""
    sys.modules["aiohttp"] = package

    def complete(name: str) -> Any:
        """What the package's code defines as ``name`` (PEP 562); the code runs now."""
        del vars(package)["__getattr__"]
        return getattr(importlib.reload(package), name)

    try:
        importlib.import_module("aiohttp.web")
    except ImportError:  # a release whose server needs the whole package, which the next import then loads
        del sys.modules["aiohttp"]
    else:
        vars(package)["__getattr__"] = complete


_import_server()

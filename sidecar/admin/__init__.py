"""The port for operators and scrapers.

aiohttp prepares TLS contexts for its client when it is imported and reads every certificate authority of the
system for them: 40 ms and 2 MiB for a client that is never used here. It finds none while this package is
imported.
"""

from __future__ import annotations

import os

_CERTIFICATES = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
_given = {name: os.environ.get(name) for name in _CERTIFICATES}
os.environ.update(_CERTIFICATES)
try:
    import aiohttp  # noqa: F401 - imported here for the reason above
finally:
    for _name, _value in _given.items():
        if _value is None:
            del os.environ[_name]
        else:
            os.environ[_name] = _value

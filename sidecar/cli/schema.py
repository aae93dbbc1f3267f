"""`sidecar schema`."""

from __future__ import annotations

import json


def schema() -> None:
    """Print the JSON Schema of the configuration, which editors complete from."""
    from sidecar.settings.schema import json_schema  # noqa: PLC0415 - for this command alone

    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))

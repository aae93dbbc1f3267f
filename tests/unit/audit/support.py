"""What the tests of the audit trail share."""

from __future__ import annotations

from sidecar.settings.model import Audit

REQUEST_ID = "0190a0b0-0000-7000-8000-000000000001"
USER_ID = "0190a0b0-0000-7000-8000-000000000002"


def audit_settings(**values) -> Audit:
    """The example of the documentation, with other values where given."""
    example = {
        "change_type": "CREATED",
        "request_id": "response:/id",
        "new_value": "response:",
        "changed_by_id": "header:X-User-ID",
        "changed_by_type": "USER",
    }
    return Audit(**{**example, **values})


class Sayings:
    """A log that remembers: name of each event, and its fields."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict]] = []

    def _say(self, event: str, /, **fields) -> None:
        self.said.append((event, fields))

    debug = info = warning = error = _say

    def crash(self, event: str, error: BaseException, /, **fields) -> None:
        self.said.append((event, {"error": error, **fields}))

    @property
    def events(self) -> list[str]:
        """Names of the events."""
        return [event for event, _ in self.said]

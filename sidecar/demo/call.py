"""One request of the tour: sent for real, and shown as the curl line that sends the same."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp

_SHOWN_FIELDS = (
    "X-Correlation-ID",
    "X-Idempotent-Replayed",
    "X-Idempotent-Original-Correlation-ID",
    "X-Sidecar-Reason",
    "Retry-After",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        status: Status code.
        reason: The status line's phrase.
        fields: Those of its header fields that the sidecar sets.
        body: Its content.
    """

    status: int
    reason: str
    fields: dict[str, str]
    body: str

    def lines(self) -> list[str]:
        """The answer as ``curl -i`` would show it, without the fields that do not matter here."""
        fields = [f"{name}: {value}" for name, value in self.fields.items()]
        return [f"HTTP/1.1 {self.status} {self.reason}", *fields, "", self.body]


@dataclass(frozen=True, slots=True)
class Call:
    """A request to be made."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    payload: dict[str, object] | None = None

    def curl(self) -> str:
        """The same as a line for the shell."""
        words = ["curl", "-i", self.url]
        for name, value in self.headers.items():
            words += ["-H", f"{name}: {value}"]
        if self.payload is not None:
            words += ["-H", "Content-Type: application/json", "-d", json.dumps(self.payload)]
        return shlex.join(words)

    async def send(self, session: aiohttp.ClientSession) -> Answer:
        """Make the request.

        Raises:
            aiohttp.ClientError: No answer came.
        """
        async with session.request(self.method, self.url, headers=self.headers, json=self.payload) as answer:
            fields = {name: answer.headers[name] for name in _SHOWN_FIELDS if name in answer.headers}
            return Answer(answer.status, answer.reason or "", fields, (await answer.text()).strip())

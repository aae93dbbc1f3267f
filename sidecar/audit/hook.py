"""What the proxy calls: one plan a route, made when the configuration is loaded.

The life of an audited exchange::

    if not plan.audits(method): …                 nothing to record (a safe method)
    intent = plan.begin(…)
    if plan.required: await plan.secure(intent)   AuditUnavailable: do not forward
    … the request is forwarded …
    best effort                                   required
      plan.finish(intent, status, body, coding)     await plan.settle(intent, status, body, coding)
      nothing                                       await plan.withdraw(intent)     the request was not sent

``status`` is that of a whole answer; ``None`` says that the request was sent and nobody knows what became
of it. Replays begin nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.audit.body import CAPTURE_LIMIT
from sidecar.audit.intent import Intent
from sidecar.audit.mapping import RowMapping
from sidecar.audit.record import ERROR, OK, UNKNOWN
from sidecar.clock import SYSTEM_CLOCK, Clock
from sidecar.ids import random_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.audit.recorder import Recorder
    from sidecar.audit.sources import Message
    from sidecar.settings.model import Audit

_SUCCESS: Final = 2


class AuditPlan:
    """How a route's exchanges are audited.

    Args:
        settings: The route's ``audit`` section, checked with :func:`sidecar.audit.mapping.mistakes`.
        route: The route's name.
        recorder: Takes what exchanges tell.
        clock: Tells when changes were made.

    Attributes:
        required: Whether the intent must be secured before the request is forwarded.
        reads_previous: Whether a GET must read the state before the change; what it finds goes into
            :meth:`begin`.
        reads_request: Whether the request's body must be captured.
        reads_response: Whether the response's body must be captured.
        capture_limit: Bytes of a body to capture; a longer one is handed over as ``None``.
    """

    __slots__ = (
        "_mapping",
        "_recorder",
        "_records_errors",
        "_route",
        "_unaudited",
        "_wall",
        "capture_limit",
        "reads_previous",
        "reads_request",
        "reads_response",
        "required",
    )

    def __init__(
        self, settings: Audit, *, route: str, recorder: Recorder, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        mapping = RowMapping(settings)
        self._mapping = mapping
        self._route = route
        self._recorder = recorder
        self._unaudited = mapping.unaudited_methods
        self._wall = clock.wall
        self._records_errors = settings.on_error == "record"
        self.required = settings.mode == "required"
        self.reads_previous = settings.previous == "get"
        self.reads_request = mapping.reads_request
        self.reads_response = mapping.reads_response
        self.capture_limit = CAPTURE_LIMIT

    def __repr__(self) -> str:
        return f"<AuditPlan {self._route} {'required' if self.required else 'best effort'}>"

    def audits(self, method: bytes) -> bool:
        """Whether requests with this method make rows."""
        return method not in self._unaudited

    def begin(
        self,
        method: bytes,
        correlation_id: bytes,
        header: Callable[[bytes], bytes | None],
        *,
        header_size: int = 0,
        path: Mapping[str, bytes] | None = None,
        body: bytes | None = b"",
        coding: bytes | None = None,
        previous: Message | None = None,
    ) -> Intent:
        """Take down what the request says.

        Args:
            method: Its method, one that :meth:`audits` wants to hear of.
            correlation_id: Its correlation id.
            header: Looks up a field by its lower-case name; ``None`` if it was not sent. Called when the row
                is made, perhaps later and in another thread.
            header_size: Bytes that ``header`` holds on to.
            path: Path parameters, as the router gives them.
            body: The whole body as sent, ``None`` if it is longer than :attr:`capture_limit`.
            coding: Its ``Content-Encoding``.
            previous: What the GET before the change answered; ``None`` if it found nothing.
        """
        return Intent(
            self._mapping,
            self._route,
            random_part=random_bytes(10),
            created_at=self._wall(),
            method=method,
            correlation_id=correlation_id,
            path=path,
            header=header,
            header_size=header_size,
            body=body,
            coding=coding,
            previous=previous,
        )

    def finish(
        self, intent: Intent, status: int | None, body: bytes | None = None, coding: bytes | None = None
    ) -> None:
        """Say how a best-effort exchange ended; never waits."""
        outcome = self._outcome(status)
        if outcome:
            intent.end(outcome, self._wall(), body, coding)
            self._recorder.put(intent)

    async def secure(self, intent: Intent) -> None:
        """Make a required intent durable, before its request is forwarded.

        Raises:
            AuditUnavailable: It could not be; the request must not be forwarded.
        """
        await self._recorder.secure(intent)

    async def settle(
        self, intent: Intent, status: int | None, body: bytes | None = None, coding: bytes | None = None
    ) -> None:
        """Make the outcome of a required exchange durable, before the response is given."""
        outcome = self._outcome(status)
        if outcome:
            intent.end(outcome, self._wall(), body, coding)
            await self._recorder.settle(intent)
        else:
            await self._recorder.withdraw(intent)

    async def withdraw(self, intent: Intent) -> None:
        """Forget a required intent whose request was not sent."""
        await self._recorder.withdraw(intent)

    def _outcome(self, status: int | None) -> str:
        """The row's outcome; nothing when such an answer makes no row."""
        if status is None:
            return UNKNOWN
        if status // 100 == _SUCCESS:
            return OK
        return ERROR if self._records_errors else ""

"""An audited exchange between its beginning and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.audit.mapping import blank_row
from sidecar.audit.sources import Message, Rejected
from sidecar.ids import uuid7_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.audit.mapping import RowMapping
    from sidecar.audit.record import AuditRow


class Intent:
    """What is known of a change before its request is forwarded; bytes only, as making one must cost nothing.

    Attributes:
        route: The route's name.
        row: The row as far as the request tells, once :meth:`draft` has been called.
        item: Id of the row in the spool; 0 while it is not there.
        size: Bytes of the head and the bodies that it holds on to.
    """

    __slots__ = (
        "_body",
        "_coding",
        "_correlation_id",
        "_created_at",
        "_ended_at",
        "_header",
        "_mapping",
        "_method",
        "_outcome",
        "_path",
        "_previous",
        "_random_part",
        "_response",
        "_response_coding",
        "item",
        "route",
        "row",
        "size",
    )

    def __init__(
        self,
        mapping: RowMapping,
        route: str,
        *,
        random_part: bytes,
        created_at: float,
        method: bytes,
        correlation_id: bytes,
        path: Mapping[str, bytes] | None,
        header: Callable[[bytes], bytes | None],
        header_size: int,
        body: bytes | None,
        coding: bytes | None,
        previous: Message | None,
    ) -> None:
        self._mapping = mapping
        self.route = route
        self._random_part = random_part
        self._created_at = created_at
        self._method = method
        self._correlation_id = correlation_id
        self._path = path
        self._header = header
        self._body = body
        self._coding = coding
        self._previous = previous
        self.row: AuditRow | None = None
        self.item = 0
        self.size = header_size + len(body or b"")
        if previous is not None:
            self.size += len(previous.body or b"")

    def __repr__(self) -> str:
        return f"<Intent route={self.route} item={self.item} row={self.row}>"

    def draft(self) -> AuditRow:
        """The row as far as the request tells, with an unknown outcome; made by the first call.

        Raises:
            Rejected: A value is missing or does not fit its column; :attr:`row` has all the others.
        """
        if self.row is None:
            self.row = blank_row(
                row_id=uuid7_of(int(self._created_at * 1000), self._random_part),
                method=self._method.decode("ascii"),
                correlation_id=self._correlation_id.decode("ascii") or None,
                created_at=microseconds(self._created_at),
            )
            request = Message(self._body, self._coding, self._header, self._path)
            previous = self._previous
            self._body = self._previous = None  # the row takes what it needs of them
            self._mapping.begin(request, self.row, previous)
        return self.row

    def end(self, outcome: str, at: float, body: bytes | None, coding: bytes | None) -> None:
        """Take down how the exchange ended.

        Args:
            outcome: ``ok``, ``error`` or ``unknown``.
            at: When, in seconds since the Unix epoch.
            body: The response's body; ``None`` if it was not captured whole.
            coding: Its ``Content-Encoding``.
        """
        self._outcome = outcome
        self._ended_at = at
        self._response = body
        self._response_coding = coding
        if body is not None:
            self.size += len(body)

    def complete(self) -> AuditRow:
        """The whole row, once the exchange has ended.

        Raises:
            Rejected: A value is missing or does not fit its column; :attr:`row` has all the others.
        """
        first: Rejected | None = None
        try:
            row = self.draft()
        except Rejected as rejected:
            first = rejected
            row = self.draft()  # with what could be filled
        row.created_at = microseconds(self._ended_at)
        self._mapping.complete(row, Message(self._response, self._response_coding), self._outcome)
        if first is not None:
            raise first
        return row


def microseconds(seconds: float) -> int:
    """Seconds since the Unix epoch in whole microseconds, as PostgreSQL keeps them."""
    return round(seconds * 1_000_000)

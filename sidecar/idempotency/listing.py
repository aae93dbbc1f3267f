"""Records of a Redis in pages, without an index: that would cost every request, and listings are rare."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from sidecar.idempotency.codec import STATES, decode
from sidecar.idempotency.core import RecordUnreadableError, State
from sidecar.idempotency.scripts import Script, bulk
from sidecar.idempotency.store import Page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.idempotency.record import Record
    from sidecar.idempotency.scripts import ScriptRunner

_LIST = Script("list", keys=0, arguments=5)
_SCAN_COUNT = b"1000"
_SCANS_PER_PAGE = 25
_BEGINNING = b"512"  # bytes of a record that hold everything but headers and body
_BY_ID = attrgetter("id")
_SPECIAL = "\\*?[]^-"  # in patterns of keys

# A run-out lease is not written down, so a record of unknown outcome may still say that it is executing.
_LETTERS = {
    None: b"".join(STATES),
    State.EXECUTING: b"E",
    State.COMPLETED: b"C",
    State.UNKNOWN: b"UE",
}


class _Place(NamedTuple):
    """Where a page begins.

    What one SCAN gives can be more than a page holds. The next page then asks for the same again and goes on
    behind the last id: an order that neither expiring records nor a server that moves its keys about change.

    Attributes:
        server: Number of the server.
        scan: Cursor of its SCAN.
        after: The cursor that this SCAN gave when the page before was made.
        last: Id of the last record on the page before; empty if none was of this SCAN.
    """

    server: int
    scan: int
    after: int = 0
    last: str = ""

    @classmethod
    def read(cls, cursor: str | None) -> _Place:
        if cursor is None:
            return cls(0, 0)
        *numbers, last = cursor.split("-", 3)
        if len(numbers) != len(cls._fields) - 1 or not all(it.isascii() and it.isdigit() for it in numbers):
            raise ValueError("the cursor is not one that was given out")
        server, scan, after = map(int, numbers)
        return cls(server, scan, after, last)

    def __str__(self) -> str:
        return f"{self.server}-{self.scan}-{self.after}-{self.last}"

    def begins_anew(self, after: int) -> bool:
        """Whether the table was resized since the page before: then the SCAN is of other keys."""
        return self.last != "" and self.after != after

    def following(self, after: int) -> _Place:
        return _Place(self.server, after) if after else _Place(self.server + 1, 0)


async def list_records(
    runner: ScriptRunner,
    prefix: bytes,
    *,
    state: State | None,
    route: str | None,
    cursor: str | None,
    limit: int,
    patience: float,
) -> Page:
    """A page of the records whose keys begin with ``prefix``; it ends after about 25,000 keys at the latest.

    Raises:
        ValueError: ``cursor`` is not one that was given out.
        StoreError: Redis cannot be used.
    """
    place = _Place.read(cursor)
    servers = await runner.servers.masters()
    items: list[Record] = []
    for _ in range(_SCANS_PER_PAGE):
        if place.server >= len(servers):
            return Page(items, None)
        arguments = bulk(b"%d" % place.scan, _pattern(prefix), _SCAN_COUNT, _LETTERS[state], _BEGINNING)
        now, cursor_after, *found = await runner.run_at(servers[place.server], _LIST, arguments, patience)
        after = int(cursor_after)
        last = "" if place.begins_anew(after) else place.last
        wanted = [
            record
            for record in _read(found, now, prefix)
            if state in (None, record.state) and route in (None, record.route) and record.id > last
        ]
        records = sorted(wanted, key=_BY_ID)
        room = limit - len(items)
        items += records[:room]
        if len(records) > room:
            last = records[room - 1].id if room else last
            return Page(items, str(place._replace(after=after, last=last)))
        place = place.following(after)
    return Page(items, str(place))


def _pattern(prefix: bytes) -> bytes:
    escaped = "".join(f"\\{letter}" if letter in _SPECIAL else letter for letter in prefix.decode("latin-1"))
    return escaped.encode("latin-1") + b"*"


def _read(found: Sequence[bytes], now: int, prefix: bytes) -> list[Record]:
    records = []
    for key, beginning in zip(found[::2], found[1::2], strict=True):
        try:
            record = decode(key[len(prefix) :].decode(errors="replace"), beginning, now, brief=True)
        except RecordUnreadableError:
            continue  # of a newer release, which can list it
        if record is not None:
            records.append(record)
    return records

"""States of a record, the steps between them, and what a request that finds a record is told."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.idempotency.record import Record

KEPT_BODY = 1 << 20
"""Bytes of a response's body that are kept whole; a larger response leaves a record without body."""

BUFFERED_BODY = 1 << 20
"""Bytes of a request's body that are read before the claim; a larger body streams and is hashed meanwhile."""

TOKEN_BYTES = 16


class State(enum.Enum):
    """What a record says about its key. No record at all is written as ``None``."""

    EXECUTING = "executing"
    COMPLETED = "completed"
    UNKNOWN = "unknown"


class Step(enum.Enum):
    """What can happen to a record; each step is one atomic operation of a store."""

    CLAIM = "claim"
    COMPLETE = "complete"
    RELEASE = "release"
    LOSE = "lose"
    LAPSE = "lapse"
    RESOLVE = "resolve"
    FREE = "free"
    REEXECUTE = "reexecute"


# A claim is the only way in, and it needs an empty place. From then on whoever writes must show the token
# that the claim put there, so a process that was stopped for an hour cannot overwrite what happened since.
# The three ways out of EXECUTING are what the claimant knows: the answer came (COMPLETE), nothing was sent
# or nothing is to be kept (RELEASE), or something was sent and no whole answer came (LOSE). A fourth,
# LAPSE, is for claimants that died: it happens by the store's clock when the lease runs out. UNKNOWN is
# never left by time or by another client: only by what the claimant still has to say (the late result; or
# that a claim whose lease ran out was never sent), by an operator (RESOLVE, FREE), or by a route that
# prefers a second execution to a blocked key (REEXECUTE). COMPLETED is final; it ends with its time to
# live. What is not in the table does not happen.
TRANSITIONS: Mapping[tuple[State | None, Step], State | None] = {
    (None, Step.CLAIM): State.EXECUTING,
    (State.EXECUTING, Step.COMPLETE): State.COMPLETED,
    (State.EXECUTING, Step.RELEASE): None,
    (State.EXECUTING, Step.LOSE): State.UNKNOWN,
    (State.EXECUTING, Step.LAPSE): State.UNKNOWN,
    (State.UNKNOWN, Step.COMPLETE): State.COMPLETED,
    (State.UNKNOWN, Step.RELEASE): None,  # a run-out lease only, never an outcome that was marked as lost
    (State.UNKNOWN, Step.RESOLVE): State.COMPLETED,
    (State.UNKNOWN, Step.FREE): None,
    (State.UNKNOWN, Step.REEXECUTE): State.EXECUTING,
}


class Loss(enum.Enum):
    """Why an outcome is unknown."""

    LEASE = "lease"
    """The claimant stopped renewing: it crashed, hung, or could not reach the store."""
    TIMEOUT = "timeout"
    RESET = "reset"
    TRUNCATED = "truncated"
    """The response broke off."""
    PROTOCOL = "protocol"
    """The response was malformed."""
    UPLOAD = "upload"
    """A streamed request body broke off after a part of it had been sent."""
    FORGOTTEN = "forgotten"
    """The store had lost the record of a key that this sidecar knows to have been sent."""


class Match(enum.Enum):
    """How a presented fingerprint compares with a stored one."""

    SAME = enum.auto()
    OTHER = enum.auto()
    UNDECIDED = enum.auto()
    """The body of one of the two requests has not passed yet; as far as can be seen they agree."""


class Verdict(enum.Enum):
    """What the request that found a record is told."""

    CONFLICT = enum.auto()
    IN_PROGRESS = enum.auto()
    UNKNOWN = enum.auto()
    REPLAY = enum.auto()
    NOT_REPLAYABLE = enum.auto()


def judge(record: Record, match: Match) -> Verdict:
    """What a request with a fingerprint that compares as ``match`` is told about ``record``.

    Another request under the same key is told so first, whatever state the record is in.
    """
    if match is Match.OTHER:
        return Verdict.CONFLICT
    if record.state is State.EXECUTING:
        return Verdict.IN_PROGRESS
    if record.state is State.UNKNOWN:
        return Verdict.UNKNOWN
    if record.response is None or record.response.body is None:
        return Verdict.NOT_REPLAYABLE
    return Verdict.REPLAY


class RecordUnreadableError(Exception):
    """What stands under a key cannot be read, so nothing may be executed under that key either."""


class NewerRecordError(RecordUnreadableError):
    """The record was written by a newer release than this one."""


class ForeignRecordError(RecordUnreadableError):
    """The value was not written by a sidecar."""

"""What the first process asks of a worker, and what a worker answers: plain data that can be pickled.

Every request has one answer, in the order of the requests. Sockets travel beside the message that names them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from sidecar.load import Load
    from sidecar.metrics.registry import Snapshot
    from sidecar.settings.addresses import Address
    from sidecar.settings.model import Settings
    from sidecar.workers.commons import CommonsHandle

Sockets: TypeAlias = "tuple[tuple[Address, int], ...]"
"""Addresses, and how many listening sockets come along for each."""


@dataclass(frozen=True, slots=True)
class Start:
    """Begin to serve. The first request of all.

    Attributes:
        number: The worker's, from 1.
        settings: The configuration in force.
        sockets: What to listen on.
        log_level: Least level of log lines, which an operator may have chosen.
        commons: What is shared.
    """

    number: int
    settings: Settings
    sockets: Sockets
    log_level: str
    commons: CommonsHandle


@dataclass(frozen=True, slots=True)
class Apply:
    """Put another configuration in force.

    Attributes:
        settings: The configuration.
        sockets: What to listen on besides what is open already.
    """

    settings: Settings
    sockets: Sockets


@dataclass(frozen=True, slots=True)
class SetLogLevel:
    """Write log lines from ``level`` on."""

    level: str


@dataclass(frozen=True, slots=True)
class Tell:
    """Say how things are; the answer is a :class:`Report`."""


@dataclass(frozen=True, slots=True)
class Done:
    """The answer to all but :class:`Tell`.

    Attributes:
        problem: Why it could not be done, or empty.
    """

    problem: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """How a worker is.

    Attributes:
        load: What it has in hand.
        snapshot: Its figures.
    """

    load: Load
    snapshot: Snapshot


Request = Start | Apply | SetLogLevel | Tell
Answer = Done | Report

"""What a case needs to know of a contender that runs."""

from __future__ import annotations

import subprocess  # noqa: TC003 - a dataclass's annotation
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that runs and listens.

    Attributes:
        name: For tables.
        port: Where it takes requests, on loopback.
        process: Its first process; CPU time and memory are counted over the whole tree below it.
    """

    name: str
    port: int
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Process id of the first process."""
        return self.process.pid


class PeerMissing(Exception):  # noqa: N818 - says what happened
    """A proxy to compare with is not installed on this machine."""

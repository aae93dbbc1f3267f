"""Which settings a reload cannot change: what was built with them lives as long as the process."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sidecar.settings.model import Settings

FIXED: Final = (
    "service",
    "store",
    "store_timeout",
    "database",
    "workers",
    "admin.bind",
    "metrics",
    "log.format",
    "spool",
)
"""Keys whose change needs a restart, as they stand in the file."""


class RestartNeeded(Exception):  # noqa: N818 - says what is the case
    """A configuration changes what only a restart can change; nothing of it is in force.

    Attributes:
        mistakes: A line for each such key.
    """

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def check_reloadable(old: Settings, new: Settings, *, can_trace: bool) -> None:
    """Refuse ``new`` where it changes a fixed setting of ``old``.

    Args:
        old: The configuration in force.
        new: The one that is to take its place.
        can_trace: Whether spans can be exported; the exporter starts with the process, unless tracing is off.

    Raises:
        RestartNeeded: It does; the message never shows a value, which may hold a password.
    """
    changed = [key for key in FIXED if attrgetter(key)(old) != attrgetter(key)(new)]
    if new.tracing.sample and not can_trace:
        changed.append("tracing.sample")
    if changed:
        raise RestartNeeded(
            [f"{key}: has changed, which needs a restart: put it back, or restart" for key in changed]
        )

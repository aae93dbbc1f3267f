"""What the child that reads the configuration hands over.

Apart from both sides, because the one needs no asyncio and the other no validator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.settings.mistake import Mistake
    from sidecar.settings.model import Settings


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the child made of the configuration.

    Attributes:
        file: Name of the file, or ``None`` if there is none.
        settings: The configuration, unless there are mistakes.
        mistakes: What is wrong with it.
    """

    file: str | None
    settings: Settings | None
    mistakes: list[Mistake]

"""What is wrong with a configuration, and where."""

from __future__ import annotations

from dataclasses import dataclass

Path = tuple[str | int, ...]
"""The keys and list positions that lead to a value, ``("routes", 0, "match")``."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing to correct.

    Attributes:
        origin: Where it stands: ``FILE:LINE``, the name of an environment variable, or a flag.
        path: The key, ``routes.0.match.path``; empty where the mistake concerns the file as a whole.
        message: What is wrong, and how to put it right.
    """

    origin: str
    path: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.origin, self.path, self.message) if part)


class Invalid(Exception):  # noqa: N818 - says what the configuration is
    """The configuration has mistakes; all of them, in the order of the file."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = mistakes


def dotted(path: Path) -> str:
    """``path`` as it is shown: ``routes.0.match.path``."""
    return ".".join(map(str, path))

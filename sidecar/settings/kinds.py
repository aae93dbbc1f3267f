"""The kinds of value that a setting can hold: how it is read, bounded, shown, and described to editors.

An instance stands in the annotation of a setting, ``connect: Annotated[float, Duration("1ms", "10m")]``.
Every scalar reaches a kind as the text that the person wrote: the setting decides what it means, not YAML's
guesses (a token of digits stays a string, ``0.10`` keeps its zero). Pydantic is imported only when it asks
for a schema, so that the running process, which holds validated values, never loads it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from sidecar.settings import units
from sidecar.settings.addresses import Address, UpstreamUrl

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

T = TypeVar("T")

_TRUE = frozenset({"true", "on", "yes"})
_FALSE = frozenset({"false", "off", "no"})
_WHOLE = r"-?[0-9]{1,15}"
_NUMBER = r"[0-9]{1,9}(?:\.[0-9]{1,6})?"


class Kind(Generic[T]):
    """One kind of scalar.

    Args:
        none: Whether ``none`` (and an empty value) is allowed, and becomes ``None``.
    """

    expected: str = "a value"
    secret: ClassVar[bool] = False

    def __init__(self, *, none: bool = False) -> None:
        self.none = none

    def parse(self, text: str) -> T:
        """The value that ``text`` means; :class:`ValueError` says what was expected and what came."""
        raise NotImplementedError

    def show(self, value: T) -> str:
        """``value`` as it would be written in the file."""
        return str(value)

    def range(self) -> str:
        """The bounds for people to read, or nothing where the kind has none."""
        return ""

    def json_schema(self) -> dict[str, Any]:
        """JSON Schema of what may be written; durations and the like are strings with a pattern."""
        return {"type": "string"}

    def validate(self, raw: object) -> T | None:
        """``raw`` as it came from the file, the environment or a flag, parsed."""
        if raw is None or raw == "":
            if self.none:
                return None
            raise ValueError(f"expected {self.expected}, got nothing")
        if not isinstance(raw, str):
            raise ValueError(f"expected {self.expected}, got {describe(raw)}")  # noqa: TRY004 - pydantic's protocol
        if self.none and raw.lower() == "none":
            return None
        return self.parse(raw)

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415 - see the module's docstring

        return core_schema.no_info_plain_validator_function(self.validate)


def describe(raw: object) -> str:
    """What came instead of a scalar, for an error message."""
    if raw is None:
        return "nothing"
    if isinstance(raw, str):
        return units.quote(raw)
    return "a list" if isinstance(raw, list) else "a mapping"


class Quantity(Kind[T]):
    """A measurable value between two bounds, both included, each written as in the file.

    Args:
        low: Smallest value allowed.
        high: Largest value allowed.
        none: Whether ``none`` is allowed.
    """

    def __init__(self, low: str, high: str, *, none: bool = False) -> None:
        super().__init__(none=none)
        self.low = low
        self.high = high

    def read(self, text: str) -> T:
        """The value without regard to the bounds."""
        raise NotImplementedError

    def parse(self, text: str) -> T:
        value: Any = self.read(text)
        if not self.read(self.low) <= value <= self.read(self.high):
            raise ValueError(f"must lie between {self.low} and {self.high}, got {text.strip()}")
        return value  # type: ignore[no-any-return]

    def range(self) -> str:
        return f"{self.low} to {self.high}"


class Duration(Quantity[float]):
    """A length of time, held in seconds."""

    expected = "a duration such as 100ms, 30s or 24h"

    def read(self, text: str) -> float:
        return units.parse_duration(text)

    def show(self, value: float) -> str:
        return units.format_duration(value)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?(ms|s|m|h|d)$"}


class Size(Quantity[int]):
    """An amount of memory, held in bytes."""

    expected = "a size such as 64KiB or 1MiB"

    def read(self, text: str) -> int:
        return units.parse_size(text)

    def show(self, value: int) -> str:
        return units.format_size(value)

    def json_schema(self) -> dict[str, Any]:
        pattern = r"^[0-9]+(\.[0-9]+)? ?([kKmMgGtT][iI]?)?[bB]?$"
        return {"anyOf": [{"type": "string", "pattern": pattern}, {"type": "integer", "minimum": 0}]}


class Rate(Quantity[float]):
    """A share of a whole, held as 0 to 1."""

    expected = "a rate such as 20% or 0.2"

    def read(self, text: str) -> float:
        return units.parse_rate(text)

    def show(self, value: float) -> str:
        return units.format_rate(value)

    def json_schema(self) -> dict[str, Any]:
        return {
            "anyOf": [
                {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?%$"},
                {"type": "number", "minimum": 0, "maximum": 1},
            ]
        }


class Whole(Quantity[int]):
    """A whole number."""

    expected = "a whole number"

    def read(self, text: str) -> int:
        if not re.fullmatch(_WHOLE, text):
            raise ValueError(f"expected {self.expected}, got {units.quote(text)}")
        return int(text)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": int(self.low), "maximum": int(self.high)}


class Number(Quantity[float]):
    """A number that may have a fraction."""

    expected = "a number"

    def read(self, text: str) -> float:
        if not re.fullmatch(_NUMBER, text):
            raise ValueError(f"expected {self.expected}, got {units.quote(text)}")
        return float(text)

    def show(self, value: float) -> str:
        return f"{value:g}"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "number", "minimum": float(self.low), "maximum": float(self.high)}


class Flag(Kind[bool]):
    """True or false."""

    expected = "true or false"

    def parse(self, text: str) -> bool:
        if text.lower() in _TRUE:
            return True
        if text.lower() in _FALSE:
            return False
        raise ValueError(f"expected {self.expected}, got {units.quote(text)}")

    def show(self, value: bool) -> str:
        return "true" if value else "false"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


class Text(Kind[str]):
    """A string that a regular expression matches whole.

    Args:
        pattern: What is allowed.
        expected: The same in words, for the error message.
        none: Whether ``none`` is allowed.
        lower: Whether the value is kept in lower case.
    """

    def __init__(self, pattern: str, expected: str, *, none: bool = False, lower: bool = False) -> None:
        super().__init__(none=none)
        self.pattern = pattern
        self.expected = expected
        self.lower = lower

    def parse(self, text: str) -> str:
        if not re.fullmatch(self.pattern, text, re.ASCII):
            came = f"{len(text)} characters that are not" if self.secret else units.quote(text)
            raise ValueError(f"expected {self.expected}, got {came}")
        return text.lower() if self.lower else text

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^(?:{self.pattern})$"}


class Secret(Text):
    """A string that is never shown, not even when it is wrong."""

    secret = True

    def show(self, value: str) -> str:  # noqa: ARG002 - that is the point
        return "***"


class SecretUrl(Kind[str]):
    """The URL of a server, whose password is never shown.

    Args:
        schemes: What may stand before ``://``.
        none: Whether ``none`` is allowed.
    """

    def __init__(self, *schemes: str, none: bool = False) -> None:
        super().__init__(none=none)
        self.schemes = schemes
        *most, last = (f"{scheme}://" for scheme in schemes)
        self.expected = f"a URL that begins with {', '.join(most)} or {last}"

    def parse(self, text: str) -> str:
        scheme, separator, rest = text.partition("://")
        if not separator or scheme not in self.schemes:
            # Only the scheme is echoed: the rest may hold a password.
            came = f"{units.quote(scheme)}://…" if separator else "a value without ://"
            raise ValueError(f"expected {self.expected}, got {came}")
        if scheme == "memory":
            if rest:
                raise ValueError("nothing follows memory://")
        elif not rest.strip("/"):
            raise ValueError(f"{scheme}:// names no host")
        return text

    def show(self, value: str) -> str:
        scheme, _, rest = value.partition("://")
        # Up to the last @, whatever stands before it: a password may hold a slash that ought to be encoded.
        account, at, place = rest.rpartition("@")
        user, colon, _ = account.partition(":")
        hidden = f"{user}:***@" if colon else f"{account}{at}"
        return f"{scheme}://{hidden}" + re.sub(r"(?<=password=)[^&]*", "***", place)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": "^(?:" + "|".join(map(re.escape, self.schemes)) + ")://"}


class Bind(Kind[Address]):
    """A place to listen on."""

    expected = "HOST:PORT or unix:PATH"

    def parse(self, text: str) -> Address:
        return Address.parse(text)


class Url(Kind[UpstreamUrl]):
    """A host of an upstream."""

    expected = "http://HOST:PORT, https://HOST:PORT or unix:PATH"

    def parse(self, text: str) -> UpstreamUrl:
        return UpstreamUrl.parse(text)

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": "^(?:https?://|unix:)"}


class Switchable:
    """Lets ``off`` stand for a whole section, then ``None``; ``on`` and an empty value mean its defaults."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415 - see the module's docstring

        return core_schema.no_info_before_validator_function(self._read, handler(source))

    @staticmethod
    def _read(raw: object) -> object:
        if raw is None or (isinstance(raw, str) and raw.lower() in _TRUE):
            return {}
        if isinstance(raw, str) and raw.lower() in _FALSE:
            return None
        return raw


class AnyCase:
    """Lets a fixed choice be written in upper case too."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415 - see the module's docstring

        return core_schema.no_info_before_validator_function(self._read, handler(source))

    @staticmethod
    def _read(raw: object) -> object:
        return raw.lower() if isinstance(raw, str) else raw

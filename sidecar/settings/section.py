"""The base of every mapping in the configuration."""

from __future__ import annotations

from dataclasses import Field, FrozenInstanceError, dataclass  # get_type_hints reads Field here
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar, dataclass_transform

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

S = TypeVar("S", bound="Section")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def section(cls: type[S]) -> type[S]:
    """Make ``cls`` a frozen, slotted, keyword-only dataclass.

    The methods that :func:`dataclass` would write and compile anew for each class are inherited from
    :class:`Section` instead: at thirty classes that is most of the time it takes to import the model, and the
    running process waits for it.
    """
    return dataclass(init=False, repr=False, eq=False, slots=True, kw_only=True)(cls)


class Section:
    """A mapping whose unknown keys are mistakes and whose empty value means its defaults.

    Sections are immutable, compare by value, and can be pickled.
    """

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __init__(self, **values: Any) -> None:
        for name in values.keys() - self.__dataclass_fields__.keys():
            raise TypeError(f"{type(self).__name__} has no {name!r}")
        for name, field in self.__dataclass_fields__.items():
            if name in values:
                value = values[name]
            elif callable(field.default_factory):
                value = field.default_factory()
            elif not isinstance(field.default, type(field.default_factory)):
                value = field.default
            else:
                raise TypeError(f"{type(self).__name__} needs {name!r}")
            object.__setattr__(self, name, value)

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__dataclass_fields__)

    def __repr__(self) -> str:
        pairs = zip(self.__dataclass_fields__, self._values(), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in pairs)})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise FrozenInstanceError(
            f"cannot assign to {name!r}: a configuration does not change, a new one is loaded"
        )

    def __delattr__(self, name: str) -> NoReturn:
        raise FrozenInstanceError(f"cannot delete {name!r}")

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), self._values())

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415 - the running process never loads pydantic

        return core_schema.no_info_before_validator_function(_default_when_empty, handler(source))


def _restore(cls: type[S], values: tuple[Any, ...]) -> S:
    restored = cls.__new__(cls)
    for name, value in zip(cls.__dataclass_fields__, values, strict=True):
        object.__setattr__(restored, name, value)
    return restored


def _default_when_empty(raw: object) -> object:
    return {} if raw is None else raw

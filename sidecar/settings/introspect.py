"""The model looked at from outside: its keys, kinds, defaults and descriptions."""

from __future__ import annotations

import ast
import functools
import inspect
import types
from dataclasses import MISSING, Field, dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from sidecar.settings import model
from sidecar.settings.kinds import Kind, Switchable
from sidecar.settings.section import Section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.settings.mistake import Path


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a section.

    Attributes:
        name: The key.
        kind: What reads its scalar, or each of its items; ``None`` for sections and fixed choices.
        choices: The words it may be, where they are fixed.
        section: The section it holds, in a list or a mapping perhaps.
        shape: ``one``, ``list``, or ``mapping`` of names to values.
        off: Whether ``off`` may stand for the section.
        optional: Whether it may be left out or empty without a default taking its place.
        required: Whether it must be given.
        default: The validated value where it is not given.
    """

    name: str
    kind: Kind[Any] | None
    choices: tuple[str, ...]
    section: type[Section] | None
    shape: Literal["one", "list", "mapping"]
    off: bool
    optional: bool
    required: bool
    default: Any


_keys: dict[type[Section], dict[str, Key]] = {}


def keys_of(section: type[Section]) -> dict[str, Key]:
    """The keys of a section, in the order of the model."""
    if section not in _keys:
        hints = get_type_hints(section, include_extras=True)
        _keys[section] = {field.name: _key(field, hints[field.name]) for field in fields(section)}
    return _keys[section]


def section_at(path: Path) -> type[Section] | None:
    """The section that ``path`` leads to, or ``None`` where that is something else."""
    section: type[Section] | None = model.Settings
    steps = iter(path)
    for step in steps:
        key = None if section is None else keys_of(section).get(str(step))
        if key is None or key.section is None:
            return None
        if key.shape != "one" and next(steps, None) is None:
            return None
        section = key.section
    return section


def sections(root: type[Section] = model.Settings, place: str = "") -> Iterator[tuple[str, type[Section]]]:
    """Every section with the place it stands in, ``upstreams.NAME.timeouts``, parents first."""
    yield place, root
    for key in keys_of(root).values():
        if key.section is not None:
            step = {"one": "", "list": ".N", "mapping": ".NAME"}[key.shape]
            yield from sections(key.section, f"{place}.{key.name}{step}".lstrip("."))


@functools.cache
def descriptions() -> dict[tuple[str, str], str]:
    """The string below each attribute of the model, by class and attribute."""
    found: dict[tuple[str, str], str] = {}
    tree = ast.parse(inspect.getsource(model))
    for cls in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for attribute, below in zip(cls.body, cls.body[1:], strict=False):
            match attribute, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[cls.name, name] = inspect.cleandoc(text)
    return found


def _key(field: Field[Any], hint: Any) -> Key:
    default = field.default_factory() if field.default_factory is not MISSING else field.default
    required = default is MISSING
    shape: Literal["one", "list", "mapping"] = "one"
    metadata, hint = _strip(hint)
    optional = type(None) in get_args(hint)
    if optional:
        (hint,) = (option for option in get_args(hint) if option is not type(None))
    if get_origin(hint) is tuple:
        shape, hint = "list", get_args(hint)[0]
    elif get_origin(hint) is dict:
        shape, hint = "mapping", get_args(hint)[1]
    inner, hint = _strip(hint)
    metadata += inner
    kinds = [item for item in metadata if isinstance(item, Kind)]
    return Key(
        name=field.name,
        kind=kinds[0] if kinds else None,
        choices=get_args(hint) if get_origin(hint) is Literal else (),
        section=hint if isinstance(hint, type) and issubclass(hint, Section) else None,
        shape=shape,
        off=any(isinstance(item, Switchable) for item in metadata),
        optional=optional,
        required=required,
        default=None if required else default,
    )


def _strip(hint: Any) -> tuple[list[Any], Any]:
    """The metadata of an ``Annotated`` type and the bare type, through the options of a union too."""
    if get_origin(hint) is Annotated:
        bare, *metadata = get_args(hint)
        return metadata, bare
    if get_origin(hint) in {Union, types.UnionType}:
        stripped = [_strip(option) for option in get_args(hint)]
        bare = Union[tuple(option for _, option in stripped)]  # noqa: UP007 - built from values
        return [item for metadata, _ in stripped for item in metadata], bare
    return [], hint


def written(key: Key) -> str:
    """The default of ``key`` as it would stand in the file, or nothing where there is none to show."""
    if key.required or key.section is not None:
        return ""
    return show(key, key.default)


def show(key: Key, value: Any) -> str:
    """``value`` of ``key`` as it would stand in the file."""
    if isinstance(value, tuple):
        return f"[{', '.join(show(key, item) for item in value)}]"
    if value is None:
        return "none" if key.kind is not None and key.kind.none else ""
    return str(value) if key.kind is None else key.kind.show(value)

"""The configuration file: read, filled in from the environment, and composed with line numbers.

Scalars stay the text they are: what ``on`` or ``0.10`` means is for the setting to say (see ``kinds``).
Whatever the file holds, reading it is bounded in bytes, depth and number of values, aliases expanded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

import yaml

from sidecar.settings.mistake import Invalid, Mistake, Path, dotted
from sidecar.settings.units import format_size, quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Tree = str | None | list["Tree"] | dict[str, "Tree"]
"""A value as it was written: text, nothing, a list, or a mapping."""

MAX_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 32
MAX_VALUES = 250_000

# The parser in C where PyYAML was built with it; both refuse the same input.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_VARIABLE = re.compile(r"\$(\$?)\{([^}\n]*)\}")
_REFERENCE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.ASCII)
# Marks the place of a variable that is not set, until its path is known: a private character, never written.
_MARK = "\ue000"
_UNSET = re.compile(f"{_MARK}([^{_MARK}]*){_MARK}")


@dataclass(slots=True)
class Document:
    """A file's content.

    Attributes:
        name: The file's name, as it was given; empty where there is no file.
        tree: Its keys and values.
        origins: ``FILE:LINE`` of each key and list item.
        mistakes: What is wrong with its syntax; its values are for others to judge.
    """

    name: str = ""
    tree: dict[str, Tree] = field(default_factory=dict)
    origins: dict[Path, str] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)


def read(name: str, environ: Mapping[str, str]) -> Document:
    """The document in the file ``name``.

    Raises:
        Invalid: The file cannot be read, is too large, or is no YAML.
    """
    try:
        with FilePath(name).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Invalid([Mistake(name, "", f"cannot be read: {error.strerror}")]) from None
    if len(content) > MAX_BYTES:
        raise Invalid([Mistake(name, "", f"is larger than {format_size(MAX_BYTES)}")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Invalid([Mistake(f"{name}:{line}", "", "is not UTF-8")]) from None
    return compose(text, name, environ)


def compose(text: str, name: str, environ: Mapping[str, str]) -> Document:
    """The document that ``text`` is, with ``${NAME}`` and ``${NAME:-default}`` filled in.

    Raises:
        Invalid: It is no YAML, or not one mapping.
    """
    expanded, lines = _expand(text, environ)
    composer = _Composer(name, lines)
    root = composer.compose(expanded)
    return _Flattener(name, lines).flatten(root)


def parse_value(text: str) -> Tree:
    """A value in YAML's flow style, as ``[502, 503]`` in an environment variable.

    Raises:
        ValueError: It is no YAML.
    """
    try:
        document = compose(f"value: {text}", "", {})
    except Invalid as invalid:
        raise ValueError(invalid.mistakes[0].message) from None
    if document.mistakes:
        raise ValueError(document.mistakes[0].message)
    return document.tree["value"]


def _expand(text: str, environ: Mapping[str, str]) -> tuple[str, list[int]]:
    """``text`` with variables filled in, and for each of its lines the number of the line it came from."""
    expanded: list[str] = []
    numbers: list[int] = []
    for number, line in enumerate(text.split("\n"), 1):
        if "${" in line and not line.lstrip().startswith("#"):
            line = _VARIABLE.sub(lambda found: _substitute(found, environ), line)  # noqa: PLW2901
        expanded.append(line)
        numbers += [number] * (line.count("\n") + 1)
    return "\n".join(expanded), numbers


def _substitute(found: re.Match[str], environ: Mapping[str, str]) -> str:
    escape, expression = found.groups()
    if escape:
        return found[0][1:]
    reference = _REFERENCE.fullmatch(expression)
    if reference is None:
        return f"{_MARK}{expression}{_MARK}"
    name, default = reference.groups()
    if default is not None:
        # As in a shell, ":-" also replaces a variable that is set to nothing.
        return environ.get(name) or default
    return environ.get(name, f"{_MARK}{name}{_MARK}")


class _Node:
    """A value in the composed graph; aliases share nodes."""

    __slots__ = ("line", "repeated", "value")

    def __init__(self, line: int, value: str | list[_Node] | dict[str, tuple[int, _Node]] | None) -> None:
        self.line = line
        self.value = value
        self.repeated: list[tuple[str, int]] = []


class _Composer:
    """Builds the graph of nodes from the parser's events, and refuses what a configuration has no use for."""

    def __init__(self, name: str, lines: list[int]) -> None:
        self._name = name
        self._lines = lines
        self._anchors: dict[str, _Node] = {}

    def compose(self, text: str) -> _Node:
        """The root of the only document in ``text``."""
        try:
            events = iter(yaml.parse(text, Loader=_LOADER))
            next(events)  # the stream begins
            if isinstance(next(events), yaml.StreamEndEvent):
                return _Node(0, {})
            root = self._value(next(events), events, 0)
            next(events)  # the document ends
            if not isinstance(event := next(events), yaml.StreamEndEvent):
                raise self._invalid(event, "one file holds one document: remove the second ---")
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position)
            raise Invalid([Mistake(self._at(line), "", f"not valid YAML: {error.reason}")]) from None
        except yaml.MarkedYAMLError as error:
            raise self._syntax_error(error) from None
        if not isinstance(root.value, dict):
            if root.value is None:
                return _Node(0, {})
            raise Invalid(
                [Mistake(self._at(root.line), "", "expected keys and values, such as service: orders")]
            )
        return root

    def _value(self, event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> _Node:
        if depth > MAX_DEPTH:
            raise self._invalid(event, f"nested more than {MAX_DEPTH} deep")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise self._invalid(event, f"*{event.anchor} names no anchor before it")
            return self._anchors[event.anchor]
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        if event.tag is not None:
            raise self._invalid(event, f"tags such as {quote(event.tag)} are not used: write the plain value")
        node = self._node(event, events, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _node(
        self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, events: Iterator[yaml.Event], depth: int
    ) -> _Node:
        line = _line(event)
        if isinstance(event, yaml.ScalarEvent):
            is_plain = event.implicit[0]
            return _Node(line, None if is_plain and event.value in _NULLS else event.value)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(line, events, depth)
        items: list[_Node] = []
        while not isinstance(item := next(events), yaml.SequenceEndEvent):
            items.append(self._value(item, events, depth + 1))
        return _Node(line, items)

    def _mapping(self, line: int, events: Iterator[yaml.Event], depth: int) -> _Node:
        pairs: dict[str, tuple[int, _Node]] = {}
        merged: dict[str, tuple[int, _Node]] = {}
        repeated: list[tuple[str, int]] = []
        while not isinstance(key := next(events), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent):
                raise self._invalid(key, "a key is plain text; quote values that begin with {, [, * or &")
            key_line = _line(key)
            value = self._value(next(events), events, depth + 1)
            if key.value == "<<" and key.implicit[0]:
                merged = self._merged(key, value)
            elif key.value in pairs:
                repeated.append((key.value, key_line))
            else:
                pairs[key.value] = (key_line, value)
        node = _Node(line, {**merged, **pairs})
        node.repeated = repeated
        return node

    def _merged(self, key: yaml.Event, value: _Node) -> dict[str, tuple[int, _Node]]:
        """What ``<<: *anchor`` brings in; of several mappings the first wins (YAML 1.1, merge key type)."""
        merged: dict[str, tuple[int, _Node]] = {}
        for source in value.value if isinstance(value.value, list) else [value]:
            if not isinstance(source.value, dict):
                raise self._invalid(key, "<< takes a mapping or a list of mappings")
            merged = {**source.value, **merged}
        return merged

    def _at(self, line: int) -> str:
        return f"{self._name}:{self._lines[min(line, len(self._lines) - 1)]}"

    def _invalid(self, event: yaml.Event, message: str) -> Invalid:
        return Invalid([Mistake(self._at(_line(event)), "", message)])

    def _syntax_error(self, error: yaml.MarkedYAMLError) -> Invalid:
        mark = error.problem_mark or error.context_mark
        message = f"not valid YAML: {error.problem}" + (f" ({error.context})" if error.context else "")
        if "cannot start any token" in message:
            message += ": indent with spaces, not tabs, and quote values that begin with @, ` or %"
        elif "mapping values are not allowed" in message:
            message += ": quote values that contain ': '"
        return Invalid([Mistake(self._at(mark.line if mark else 0), "", message)])


def _line(event: yaml.Event) -> int:
    return 0 if event.start_mark is None else event.start_mark.line


def _as_written(text: str) -> str:
    return _UNSET.sub(r"${\1}", text)


class _Flattener:
    """Turns the graph into a tree with a line for each path, aliases expanded."""

    def __init__(self, name: str, lines: list[int]) -> None:
        self._name = name
        self._lines = lines
        self._document = Document(name)
        self._values = 0

    def flatten(self, root: _Node) -> Document:
        """The document whose root is ``root``."""
        tree = self._value(root, (), root.line)
        assert isinstance(tree, dict)
        self._document.tree = tree
        return self._document

    def _value(self, node: _Node, path: Path, line: int) -> Tree:
        self._values += 1
        if self._values > MAX_VALUES or len(path) > MAX_DEPTH:
            raise Invalid(
                [Mistake(self._at(line), dotted(path), "too many values once aliases are expanded")]
            )
        self._document.origins[path] = self._at(line)
        if isinstance(node.value, list):
            return [self._value(item, (*path, index), item.line) for index, item in enumerate(node.value)]
        if isinstance(node.value, dict):
            return self._mapping(node, node.value, path)
        return node.value if node.value is None else self._text(node.value, path, line)

    def _mapping(self, node: _Node, pairs: dict[str, tuple[int, _Node]], path: Path) -> Tree:
        for key, repeated in node.repeated:
            first = self._number(pairs[key][0])
            self._add((*path, key), repeated, f"stands twice: the first is in line {first}")
        tree: dict[str, Tree] = {}
        for key, (line, item) in pairs.items():
            name = self._text(key, (*path, _as_written(key)), line)
            tree[name] = self._value(item, (*path, name), line)
        return tree

    def _text(self, text: str, path: Path, line: int) -> str:
        """``text``, with variables that are not set as they were written, each a mistake."""
        if _MARK not in text:
            return text
        for name in _UNSET.findall(text):
            if _REFERENCE.fullmatch(name):
                cure = f"set it, or write ${{{name}:-default}}"
                self._add(path, line, f"the environment variable {name} is not set: {cure}")
            else:
                expected = "expected ${NAME} or ${NAME:-default}"
                self._add(path, line, f"{expected}, got ${{{name}}} ($${{ stands for ${{ itself)")
        return _as_written(text)

    def _add(self, path: Path, line: int, message: str) -> None:
        mistake = Mistake(self._at(line), dotted(path), message)
        if mistake not in self._document.mistakes:
            self._document.mistakes.append(mistake)

    def _number(self, line: int) -> int:
        return self._lines[min(line, len(self._lines) - 1)]

    def _at(self, line: int) -> str:
        return f"{self._name}:{self._number(line)}"

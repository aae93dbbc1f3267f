"""What a value must be to fit its column in ``request_changes``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from sidecar.audit import jsontext
from sidecar.audit.pointer import Pointer, replace
from sidecar.audit.record import NIL_UUID
from sidecar.audit.sources import Rejected

if TYPE_CHECKING:
    from collections.abc import Iterable

REDACTED: Final = "[redacted]"
"""What stands in a stored state in place of a redacted value."""

CHANGE_TYPE_LENGTH: Final = 50
CHANGED_BY_TYPE_LENGTH: Final = 20

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def as_uuid(value: Any) -> str:
    """``value`` as a UUID in lower case.

    Raises:
        Rejected: ``not_a_uuid``.
    """
    if isinstance(value, str) and _UUID.fullmatch(lower := value.lower()):
        return lower
    raise Rejected("not_a_uuid", f"expected a UUID such as {NIL_UUID}, got {_kind(value)}")


def as_text(value: Any, limit: int) -> str:
    """``value`` as a text of 1 to ``limit`` characters.

    Raises:
        Rejected: ``not_text``, ``too_long``, or ``not_storable`` with U+0000 or half a surrogate pair in it.
    """
    if not isinstance(value, str) or not value:
        raise Rejected("not_text", f"expected a text of 1 to {limit} characters, got {_kind(value)}")
    if len(value) > limit:
        raise Rejected("too_long", f"expected at most {limit} characters, got {len(value)}")
    if _UNSTORABLE.search(value):
        raise Rejected("not_storable", "the text holds a character that PostgreSQL cannot store")
    return value


def as_document(value: Any, redact: Iterable[Pointer]) -> str:
    """``value`` as JSON, with :data:`REDACTED` in each place that ``redact`` names.

    Raises:
        Rejected: ``not_storable``.
    """
    for place in redact:
        value = replace(value, place, REDACTED)
    try:
        return jsontext.dumps(value)
    except jsontext.NotStorableError as error:
        raise Rejected("not_storable", str(error)) from error


def _kind(value: Any) -> str:
    """What kind of value it is, never what it says: that may be a secret in the wrong place."""
    return f"a text of {len(value)} characters" if isinstance(value, str) else f"a {type(value).__name__}"

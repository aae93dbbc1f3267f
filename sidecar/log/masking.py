"""Keeps secrets out of logs, status pages and error texts."""

from __future__ import annotations

import re
from typing import Final

MASK: Final = "***"

_SECRET_HEADERS: Final = frozenset(
    {
        "authorization",
        "cookie",
        "idempotency-key",
        "proxy-authorization",
        "set-cookie",
        "x-amz-security-token",
        "x-api-key",
        "x-auth-token",
        "x-csrf-token",
    }
)
_SECRET_WORDS: Final = re.compile(
    r"(?i)(?:^|[_.-])(?:password|passwd|pwd|secret|token|api[_-]?key|credentials?|authorization|cookie)$"
)
# RFC 3986, section 3.2.1: everything up to the last "@" before the path. The user may be shown, not the rest.
_USERINFO: Final = re.compile(r"(?<=://)([^\s/?#:@]*)(:[^\s/?#]*)?@")
_SECRET_PARAMETER: Final = re.compile(
    r"(?i)([?&;](?:password|passwd|pwd|secret|(?:access_|refresh_|id_)?token|api[_-]?key|signature|sig|code)=)[^&;#\s]*"
)


def mask_header(name: str, value: str) -> str:
    """``value``, or ``***`` for a header field that carries credentials or an idempotency key."""
    lowered = name.lower()
    return MASK if lowered in _SECRET_HEADERS or is_secret(lowered) else value


def mask_url(text: str) -> str:
    """``text`` without the passwords and tokens of the URLs in it.

    ``redis://user:hunter2@cache/0?password=x`` becomes ``redis://user:***@cache/0?password=***``.
    """
    if "://" not in text:
        return text
    without_passwords = _USERINFO.sub(_mask_userinfo, text)
    return _SECRET_PARAMETER.sub(rf"\g<1>{MASK}", without_passwords)


def mask_query(query: str) -> str:
    """A query, without its question mark, less the values of parameters that hold secrets."""
    return _SECRET_PARAMETER.sub(rf"\g<1>{MASK}", f"?{query}")[1:]


def is_secret(name: str) -> bool:
    """Whether a field of this name holds a secret, as ``password`` or ``admin.token`` do."""
    return _SECRET_WORDS.search(name) is not None


def _mask_userinfo(match: re.Match[str]) -> str:
    user, password = match.groups()
    return f"{user}:{MASK}@" if password else f"{user}@"

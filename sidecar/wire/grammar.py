"""The parts of the HTTP grammar that the sidecar relies on, as patterns over bytes.

Everything here is at least as strict as the RFC; where it is stricter, the comment says why. Possessive
quantifiers keep matching linear: what has been matched is never given back.
"""

from __future__ import annotations

import re

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"  # RFC 9110, section 5.6.2
FIELD_VALUE = rb"[^\x00-\x08\x0a-\x1f\x7f]*+"  # RFC 9110, section 5.5: no control character but HTAB
# RFC 9112, section 5: no white space before the colon, and no folding.
_FIELD_LINE = TOKEN + rb":" + FIELD_VALUE
FIELD_LINE = re.compile(_FIELD_LINE)
TRAILER_LINES = re.compile(rb"(?:" + _FIELD_LINE + rb"\r\n)*+\r\n")

# RFC 9112, section 3. The target is any visible ASCII here; `head.py` looks at its form.
REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([!-~]++) HTTP/1\.([01])")
# RFC 9112, section 4. The space before an empty reason phrase is often forgotten; nothing depends on it.
STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: (" + FIELD_VALUE + rb"))?")

# A line feed without its carriage return, or a carriage return without its line feed (RFC 9112, section 2.2).
BARE_LINE_END = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")
FORBIDDEN_OCTET = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

# RFC 9112, section 7.1; 15 hexadecimal digits are below 2**60. White space is allowed around `;` and `=` by
# the grammar (BWS), but never at the end of the line, where parsers have been seen to differ.
_QUOTED = rb'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[^\x00-\x08\x0a-\x1f\x7f])*+"'
CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,15})((?:[ \t]*;[ \t]*"
    + TOKEN
    + rb"(?:[ \t]*=[ \t]*(?:"
    + TOKEN
    + rb"|"
    + _QUOTED
    + rb"))?)*+)\Z"
)

# RFC 3986, section 3.2, without user information, percent-encoding and the comma (a list in disguise); a port
# that is there has a number below 65536.
_PORT = rb"(?:[0-9]{1,4}|[0-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9\-._~!$&'()*+;=]{1,255})(?::" + _PORT + rb")?")
ABSOLUTE_TARGET = re.compile(rb"(https?)://([^/?]*)(.*)", re.IGNORECASE)

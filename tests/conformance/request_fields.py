"""Header fields: RFC 9112, section 5, RFC 9110, sections 5 and 7.2."""

from __future__ import annotations

from tests.conformance.vectors import Forwarded, Refused, get, head


def _field(name: str, line: bytes, rfc: str = "RFC 9112, section 5.1", status: int = 400) -> Refused:
    return Refused(name=name, rfc=rfc, sent=get(line, b"X-Last: 1"), status=status)


def _host(name: str, *lines: bytes, rfc: str = "RFC 9112, section 3.2") -> Refused:
    return Refused(name=f"Host {name}", rfc=rfc, sent=head(b"GET / HTTP/1.1", *lines, b"X-Last: 1"))


FIELDS_REFUSED = [
    _field("space before the colon", b"X-A : 1"),
    _field("tab before the colon", b"X-A\t: 1"),
    _field("no name", b": 1", "RFC 9110, section 5.1"),
    _field("no name and no value", b":", "RFC 9110, section 5.1"),
    _field("no colon", b"X-A"),
    _field("space in a name", b"X A: 1", "RFC 9110, section 5.1"),
    _field("NUL in a name", b"X\x00A: 1", "RFC 9110, section 5.1"),
    _field("byte over 127 in a name", b"X\xe9: 1", "RFC 9110, section 5.1"),
    _field("parenthesis in a name", b"X(: 1", "RFC 9110, section 5.6.2"),
    _field("slash in a name", b"X/A: 1", "RFC 9110, section 5.6.2"),
    _field("quotes in a name", b'"X": 1', "RFC 9110, section 5.6.2"),
    _field("at sign in a name", b"X@A: 1", "RFC 9110, section 5.6.2"),
    _field("folded by a space", b"X-A: 1\r\n 2", "RFC 9112, section 5.2"),
    _field("folded by a tab", b"X-A: 1\r\n\t2", "RFC 9112, section 5.2"),
    _field("folded to an empty line", b"X-A: 1\r\n ", "RFC 9112, section 5.2"),
    _field("bare CR in a value", b"X-A: 1\r2", "RFC 9110, section 5.5"),
    _field("bare CR at the end of a value", b"X-A: 1\r", "RFC 9112, section 2.2"),
    _field("bare LF in a value", b"X-A: 1\nX-B: 2", "RFC 9112, section 2.2"),
    _field("NUL in a value", b"X-A: 1\x002", "RFC 9110, section 5.5"),
    Refused(
        name="white space before the first field",
        rfc="RFC 9112, section 2.2",
        sent=head(b"GET / HTTP/1.1", b" Host: test", b"Host: test"),
    ),
    Refused(
        name="end of the head by bare LF",
        rfc="RFC 9112, section 2.2",
        sent=b"GET / HTTP/1.1\r\nHost: test\r\n\n",
    ),
    Refused(
        name="end of the head by LF CR LF",
        rfc="RFC 9112, section 2.2",
        sent=b"GET / HTTP/1.1\r\nHost: test\n\r\n",
    ),
    Refused(
        name="field that would be a request elsewhere",
        rfc="RFC 9112, section 5",
        sent=get(b"GET /smuggled HTTP/1.1"),
    ),
    Refused(
        name="too many fields",
        rfc="RFC 6585, section 5",
        sent=get(*(b"X-%d: 1" % number for number in range(100))),
        status=431,
    ),
    Refused(
        name="too many octets of fields",
        rfc="RFC 6585, section 5",
        sent=get(*(b"X-%d: %b" % (number, b"a" * 8000) for number in range(9))),
        status=431,
    ),
    Refused(
        name="one field over the limit",
        rfc="RFC 6585, section 5",
        sent=get(b"X-A: " + b"a" * 70_000),
        status=431,
    ),
    Refused(
        name="one field over the limit and unfinished",
        rfc="RFC 6585, section 5",
        sent=b"GET / HTTP/1.1\r\nHost: test\r\nX-A: " + b"a" * 70_000,
        status=431,
    ),
    Refused(
        name="one name over the limit and unfinished",
        rfc="RFC 6585, section 5",
        sent=b"GET / HTTP/1.1\r\nHost: test\r\n" + b"a" * 70_000,
        status=431,
    ),
]

HOSTS_REFUSED = [
    _host("missing"),
    _host("twice", b"Host: test", b"Host: evil"),
    _host("twice the same", b"Host: test", b"Host: test"),
    _host("twice in different case", b"Host: test", b"hOST: test"),
    _host("empty", b"Host:"),
    _host("of spaces", b"Host:   "),
    _host("with userinfo", b"Host: user@test", rfc="RFC 9110, section 7.2"),
    _host("with userinfo and password", b"Host: test:80@evil", rfc="RFC 9110, section 7.2"),
    _host("with a path", b"Host: test/a", rfc="RFC 9110, section 7.2"),
    _host("with a query", b"Host: test?a", rfc="RFC 9110, section 7.2"),
    _host("with a fragment", b"Host: test#a", rfc="RFC 9110, section 7.2"),
    _host("with a backslash", b"Host: test\\a", rfc="RFC 9110, section 7.2"),
    _host("with a scheme", b"Host: http://test", rfc="RFC 9110, section 7.2"),
    _host("with a space", b"Host: te st", rfc="RFC 9110, section 7.2"),
    _host("with a tab", b"Host: te\tst", rfc="RFC 9110, section 7.2"),
    _host("as a list", b"Host: test, evil", rfc="RFC 9110, section 7.2"),
    _host("with letters in the port", b"Host: test:80a", rfc="RFC 3986, section 3.2.3"),
    _host("with a sign in the port", b"Host: test:+80", rfc="RFC 3986, section 3.2.3"),
    _host("with a port above 65535", b"Host: test:65536", rfc="RFC 3986, section 3.2.3"),
    _host("with a port of five nines", b"Host: test:99999", rfc="RFC 3986, section 3.2.3"),
    _host("with a space in the port", b"Host: test: 80", rfc="RFC 3986, section 3.2.3"),
    _host("with two ports", b"Host: test:80:81", rfc="RFC 3986, section 3.2.3"),
    _host("with a port alone", b"Host: :80", rfc="RFC 9110, section 4.2.1"),
    _host("with an open bracket", b"Host: [::1", rfc="RFC 3986, section 3.2.2"),
    _host("with something behind the bracket", b"Host: [::1]a", rfc="RFC 3986, section 3.2.2"),
    _host("with something before the bracket", b"Host: a[::1]", rfc="RFC 3986, section 3.2.2"),
    _host("with a name in brackets", b"Host: [test]", rfc="RFC 3986, section 3.2.2"),
    _host("with an address without brackets", b"Host: ::1", rfc="RFC 3986, section 3.2.2"),
    _host("with a byte over 127", b"Host: t\xc3\xa9st", rfc="RFC 3986, section 3.2.2"),
    _host("with a broken percent encoding", b"Host: te%zzst", rfc="RFC 3986, section 2.1"),
    _host("with quotes", b'Host: "test"', rfc="RFC 3986, section 3.2.2"),
    Refused(
        name="Host twice in HTTP 1.0",
        rfc="RFC 9112, section 3.2",
        sent=head(b"GET / HTTP/1.0", b"Host: test", b"Host: evil"),
    ),
    Refused(
        name="Host empty in HTTP 1.0",
        rfc="RFC 9112, section 3.2",
        sent=head(b"GET / HTTP/1.0", b"Host:"),
    ),
    Refused(
        name="Host empty beside an absolute target",
        rfc="RFC 9112, section 3.2.2",
        sent=head(b"GET http://test/ HTTP/1.1", b"Host:"),
    ),
]


def _passes(
    name: str, *lines: bytes, rfc: str = "RFC 9110, section 5.5", read: tuple[bytes, ...] = ()
) -> Forwarded:
    return Forwarded(name=name, rfc=rfc, sent=get(*lines), fields=read or lines)


def _host_passes(name: str, host: bytes, rfc: str) -> Forwarded:
    return Forwarded(name=f"Host {name}", rfc=rfc, sent=get(host=host), fields=(b"Host: " + host,))


FORWARDED = [
    _passes("value without white space around it", b"X-A:1", read=(b"X-A: 1",)),
    _passes("value with white space around it", b"X-A: \t 1 2\t ", read=(b"X-A: 1 2",)),
    _passes("empty value", b"X-A:"),
    _passes("tab inside a value", b"X-A: 1\t2"),
    _passes("bytes over 127 in a value", b"X-A: \xc3\xa9\xff"),
    _passes("no-break space at the ends of a value", b"X-A: \xa01\xa0"),
    _passes("NEL at the ends of a value", b"X-A: \x851\x85"),
    _passes("colons in a value", b"X-A: :1:2:"),
    _passes("all token characters in a name", b"!#$%&'*+-.^_`|~1aZ: 1", rfc="RFC 9110, section 5.6.2"),
    _passes("one name several times, in order", b"X-A: 2", b"X-A: 1", b"x-a: 3", rfc="RFC 9110, section 5.3"),
    _passes("cookies on several lines", b"Cookie: a=1", b"Cookie: b=2", rfc="RFC 9110, section 5.3"),
    _passes("as many fields as allowed", *(b"X-%d: 1" % number for number in range(99))),
    _passes("a large field", b"X-A: " + b"a" * 60_000),
    _passes("credentials", b"Authorization: Basic YTpi", rfc="RFC 9110, section 11.6.2"),
    _host_passes("kept as it is", b"Test.Example:8080", "RFC 9110, section 7.2"),
    _host_passes("with an address", b"192.0.2.1:80", "RFC 3986, section 3.2.2"),
    _host_passes("with an IPv6 address", b"[2001:db8::1]:8080", "RFC 3986, section 3.2.2"),
    _host_passes("with an underscore", b"my_service", "RFC 3986, section 3.2.2"),
    _host_passes("with a closing dot", b"test.", "RFC 3986, section 3.2.2"),
]

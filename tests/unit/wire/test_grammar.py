import pytest

from sidecar.wire import grammar


@pytest.mark.parametrize("octets", [b"\n", b"a\nb", b"\r\n\n", b"\ra", b"\r\r\n", b"a\r\n\rb"])
def test_bare_line_ends(octets):
    assert grammar.BARE_LINE_END.search(octets)


@pytest.mark.parametrize("octets", [b"", b"\r\n", b"a\r\nb\r\n\r\n", b"a\r"])
def test_line_ends_that_are_or_may_become_whole(octets):
    assert grammar.BARE_LINE_END.search(octets) is None


def test_a_line_feed_is_judged_by_what_stands_before_it_wherever_the_search_begins():
    assert grammar.BARE_LINE_END.search(b"a\r\n", 2) is None
    assert grammar.BARE_LINE_END.search(b"aa\n", 2)


@pytest.mark.parametrize("octet", range(256))
def test_which_octets_a_value_may_have(octet):
    """RFC 9110, section 5.5: visible ones, space, tab, and those over 127."""
    allowed = octet in (0x09, 0x20) or (0x21 <= octet != 0x7F)
    line = b"X-A: a%cb\r\n\r\n" % octet
    assert (grammar.TRAILER_LINES.fullmatch(line) is not None) is allowed


@pytest.mark.parametrize("octet", range(256))
def test_which_octets_a_name_may_have(octet):
    """RFC 9110, section 5.6.2."""
    allowed = (bytes([octet]).isalnum() and octet < 128) or octet in b"!#$%&'*+-.^_`|~"
    # A colon ends the name: what follows is the value.
    line = b"X%cA: 1\r\n\r\n" % octet
    assert (grammar.TRAILER_LINES.fullmatch(line) is not None) is (allowed or octet == ord(":"))


def test_matching_stays_linear():
    """Patterns that give back what they matched would take hours here."""
    long = b"a" * 60_000
    assert grammar.REQUEST_LINE.fullmatch(b"GET /" + long + b" HTTP/1.1 ") is None
    assert grammar.FIELD_LINE.fullmatch(b"X: " + long + b"\0") is None
    assert grammar.FIELD_LINE.fullmatch(long) is None
    assert grammar.TRAILER_LINES.fullmatch(b"a:\r\n" * 20_000 + b"a") is None
    assert grammar.CHUNK_LINE.fullmatch(b"5" + b";a=b" * 250 + b";") is None
    assert grammar.CHUNK_LINE.fullmatch(b'5;a="' + b"\\a" * 500) is None

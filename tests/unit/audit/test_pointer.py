from __future__ import annotations

import copy

import pytest

from sidecar.audit.pointer import find, parse_pointer, replace

# RFC 6901, section 5
DOCUMENT = {
    "foo": ["bar", "baz"],
    "": 0,
    "a/b": 1,
    "c%d": 2,
    "e^f": 3,
    "g|h": 4,
    "i\\j": 5,
    'k"l': 6,
    " ": 7,
    "m~n": 8,
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", DOCUMENT),
        ("/foo", ["bar", "baz"]),
        ("/foo/0", "bar"),
        ("/", 0),
        ("/a~1b", 1),
        ("/c%d", 2),
        ("/e^f", 3),
        ("/g|h", 4),
        ("/i\\j", 5),
        ('/k"l', 6),
        ("/ ", 7),
        ("/m~0n", 8),
    ],
)
def test_the_examples_of_the_rfc(text, value):
    assert find(DOCUMENT, parse_pointer(text)) == value


def test_tilde_one_after_an_escaped_tilde_is_no_slash():
    assert parse_pointer("/~01") == ("~1",)


@pytest.mark.parametrize("text", ["foo", "/~", "/~2", "/a~", "#/foo"])
def test_what_is_no_pointer(text):
    with pytest.raises(ValueError, match="no JSON pointer"):
        parse_pointer(text)


@pytest.mark.parametrize(
    "text", ["/foo/2", "/foo/-", "/foo/01", "/foo/-1", "/foo/x", "/bar", "/foo/0/x", "/ /x"]
)
def test_a_pointer_that_leads_nowhere(text):
    with pytest.raises(KeyError):
        find(DOCUMENT, parse_pointer(text))


def test_replacing_leaves_the_original_as_it_was():
    document = {"card": {"number": "4111", "holder": "Ann"}, "items": [{"note": "x"}, {"note": "y"}]}
    before = copy.deepcopy(document)
    changed = replace(document, ("card", "number"), "***")
    changed = replace(changed, ("items", "1", "note"), "***")
    assert changed == {"card": {"number": "***", "holder": "Ann"}, "items": [{"note": "x"}, {"note": "***"}]}
    assert document == before


@pytest.mark.parametrize("pointer", [("none",), ("card", "none"), ("card", "number", "none"), ("items", "9")])
def test_replacing_where_nothing_is_changes_nothing(pointer):
    document = {"card": {"number": "4111"}, "items": []}
    assert replace(document, pointer, "***") is not None
    assert replace(document, pointer, "***") == {"card": {"number": "4111"}, "items": []}


def test_replacing_the_whole():
    assert replace({"a": 1}, (), "***") == "***"

import pytest

from sidecar.idempotency.core import BUFFERED_BODY, ForeignRecordError, Match, NewerRecordError
from sidecar.idempotency.fingerprint import VERSION, Fingerprinter, Kind, take

JSON = b"application/json"
LARGE = b"x" * (BUFFERED_BODY + 1)


def of(body, kind=Kind.RAW, media_type=JSON, method=b"POST", target=b"/a?b=c"):
    return take(kind, method, target, media_type, body)


def compare(one, other):
    assert one.compare(other.value) is other.compare(one.value)
    return one.compare(other.value)


def streamed(body, kind=Kind.RAW, media_type=JSON, pieces=1000, target=b"/a?b=c"):
    fingerprinter = Fingerprinter(kind, b"POST", target, media_type)
    for start in range(0, len(body), pieces):
        fingerprinter.update(body[start : start + pieces])
    return fingerprinter.finish()


def provisional(kind=Kind.RAW, media_type=JSON, target=b"/a?b=c"):
    return Fingerprinter(kind, b"POST", target, media_type).provisional()


def multipart(boundary, *parts, preamble=b"", epilogue=b""):
    body = preamble
    for part in parts:
        body += b"--" + boundary + b"\r\nContent-Disposition: form-data\r\n\r\n" + part + b"\r\n"
    body += b"--" + boundary + b"--\r\n" + epilogue
    return body, b"multipart/form-data; boundary=" + boundary


def test_the_same_request():
    assert of(b"{}").compare(of(b"{}").value) is Match.SAME


@pytest.mark.parametrize("kind", Kind)
def test_every_part_of_a_request_counts(kind):
    first = of(b'{"a":1}', kind)
    others = [
        of(b'{"a":2}', kind),
        of(b'{"a":1}', kind, media_type=b"text/plain"),
        of(b'{"a":1}', kind, method=b"PUT"),
        of(b'{"a":1}', kind, target=b"/a?b=d"),
        of(b'{"a":1}', kind, target=b"/a"),
        of(b"", kind),
    ]
    assert [compare(first, other) for other in others] == [Match.OTHER] * len(others)


def test_names_of_a_media_type_are_compared_without_case_and_white_space():
    one, other = (
        of(b"", media_type=b"Text/Plain; Charset=utf-8"),
        of(b"", media_type=b"text/plain;charset=utf-8"),
    )
    assert compare(one, other) is Match.SAME
    one, other = of(b"", media_type=b"text/plain;charset=a"), of(b"", media_type=b"text/plain;charset=b")
    assert compare(one, other) is Match.OTHER


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("body", [b"", b"a=1&b=2", b'{"a": 1}', LARGE, LARGE[:-1], LARGE * 2])
def test_how_the_body_was_framed_does_not_matter(kind, body):
    whole = of(body, kind)
    for pieces in (1 << 16, 999_999, 1 << 21):
        assert compare(whole, streamed(body, kind, pieces=pieces)) is Match.SAME


def test_json_ignores_order_and_white_space():
    assert compare(of(b'{"a":1,"b":2}', Kind.JSON), of(b'{ "b":2, "a":1}', Kind.JSON)) is Match.SAME
    assert compare(of(b'{"a":1,"b":2}'), of(b'{ "b":2, "a":1}')) is Match.OTHER


def test_what_is_not_json_is_compared_byte_by_byte():
    assert compare(of(b'{"a":1,"a":2}', Kind.JSON), of(b'{"a":1,"a":2}', Kind.JSON)) is Match.SAME
    assert compare(of(b'{"a":1,"a":2}', Kind.JSON), of(b'{"a":1, "a":2}', Kind.JSON)) is Match.OTHER


def test_forms_ignore_the_order_of_names():
    assert compare(of(b"a=1&b=2", Kind.FORM), of(b"b=2&a=1", Kind.FORM)) is Match.SAME


def test_multipart_ignores_the_boundary():
    one, one_type = multipart(b"one", b"x", b"y\r\n--on")
    two, two_type = multipart(b"another", b"x", b"y\r\n--on")
    assert compare(of(one, Kind.MULTIPART, one_type), of(two, Kind.MULTIPART, two_type)) is Match.SAME
    changed, _ = multipart(b"one", b"x", b"z")
    assert compare(of(one, Kind.MULTIPART, one_type), of(changed, Kind.MULTIPART, one_type)) is Match.OTHER
    moved, _ = multipart(b"one", b"xy", b"")
    split, _ = multipart(b"one", b"x", b"y")
    assert compare(of(moved, Kind.MULTIPART, one_type), of(split, Kind.MULTIPART, one_type)) is Match.OTHER


@pytest.mark.parametrize("pieces", [1, 2, 3, 7, 50])
def test_multipart_is_cut_at_the_same_places_however_it_arrives(pieces):
    body, media_type = multipart(b"b0und", b"x" * 60, b"\r\n--b0un", preamble=b"hello\r\n", epilogue=b"bye")
    assert (
        compare(
            of(body, Kind.MULTIPART, media_type), streamed(body, Kind.MULTIPART, media_type, pieces=pieces)
        )
        is Match.SAME
    )


@pytest.mark.parametrize(
    "media_type",
    [b"multipart/form-data", b"text/plain; boundary=one", b"multipart/form-data; boundary=" + b"b" * 71],
)
def test_what_is_not_multipart_is_compared_byte_by_byte(media_type):
    body, _ = multipart(b"one", b"x")
    assert compare(of(body, Kind.MULTIPART, media_type), of(body, Kind.RAW, media_type)) is Match.SAME


def test_other_parameters_of_multipart_count():
    body, _ = multipart(b"one", b"x")
    one = of(body, Kind.MULTIPART, b'multipart/mixed; boundary="one"; a=1')
    other = of(body, Kind.MULTIPART, b"multipart/mixed; boundary=one; a=2")
    same = of(body, Kind.MULTIPART, b"multipart/mixed; a=1; boundary=one")
    assert compare(one, other) is Match.OTHER
    assert compare(one, same) is Match.SAME


def test_multipart_without_its_boundary_is_compared_byte_by_byte():
    _, one_type = multipart(b"one", b"x")
    assert (
        compare(of(b"nothing", Kind.MULTIPART, one_type), of(b"nothing", Kind.MULTIPART, one_type))
        is Match.SAME
    )
    other = of(b"something", Kind.MULTIPART, one_type)
    assert compare(of(b"nothing", Kind.MULTIPART, one_type), other) is Match.OTHER


@pytest.mark.parametrize("kind", Kind)
def test_large_bodies(kind):
    assert compare(of(LARGE, kind), of(LARGE, kind)) is Match.SAME
    assert compare(of(LARGE, kind), of(LARGE + b"y", kind)) is Match.OTHER
    assert compare(of(LARGE, kind), of(LARGE[:-1], kind)) is Match.OTHER


def test_large_multipart_ignores_the_boundary_too():
    one, one_type = multipart(b"one", LARGE)
    two, two_type = multipart(b"another", LARGE)
    assert compare(of(one, Kind.MULTIPART, one_type), streamed(two, Kind.MULTIPART, two_type)) is Match.SAME


def test_the_boundary_may_decide_on_which_side_of_the_limit_a_multipart_body_lies():
    short, short_type = multipart(b"s", b"x" * (BUFFERED_BODY - 70))
    long, long_type = multipart(b"s" * 60, b"x" * (BUFFERED_BODY - 70))
    assert len(short) <= BUFFERED_BODY < len(long)
    assert compare(of(short, Kind.MULTIPART, short_type), of(long, Kind.MULTIPART, long_type)) is Match.SAME
    assert (
        compare(of(short, Kind.MULTIPART, short_type), provisional(Kind.MULTIPART, long_type))
        is Match.UNDECIDED
    )


def test_while_the_body_streams_only_the_head_can_be_compared():
    assert provisional().is_provisional
    assert not of(LARGE).is_provisional
    assert compare(provisional(), provisional()) is Match.UNDECIDED
    assert compare(provisional(), of(LARGE)) is Match.UNDECIDED
    assert compare(provisional(), provisional(target=b"/b")) is Match.OTHER
    assert compare(provisional(), of(LARGE, target=b"/b")) is Match.OTHER


def test_a_small_body_is_not_the_large_one_that_streams():
    assert compare(of(b"{}"), provisional()) is Match.OTHER


@pytest.mark.parametrize("kind", [Kind.JSON, Kind.FORM, Kind.MULTIPART])
def test_a_change_of_the_routes_kind_does_not_make_conflicts(kind):
    body, media_type = multipart(b"one", b"x")
    before, after = of(body, kind, media_type), of(body, Kind.RAW, media_type)
    assert after.compare(before.value) is Match.SAME
    assert before.compare(after.value) is Match.SAME
    assert of(b"other", Kind.RAW, media_type).compare(before.value) is Match.OTHER


def test_nor_does_it_for_large_bodies_that_both_kinds_compare_byte_by_byte():
    assert compare(of(LARGE, Kind.JSON), of(LARGE, Kind.RAW)) is Match.SAME
    assert compare(of(LARGE, Kind.MULTIPART), of(LARGE, Kind.RAW)) is Match.OTHER


@pytest.mark.parametrize(
    ("stored", "error"),
    [
        (b"", ForeignRecordError),
        (b"x", ForeignRecordError),
        (bytes((VERSION + 1, 1)) + bytes(32), NewerRecordError),
        (bytes((VERSION, 9)) + bytes(32), NewerRecordError),
    ],
)
def test_fingerprints_that_cannot_be_read(stored, error):
    with pytest.raises(error):
        of(b"").compare(stored)


def test_the_repr_shows_the_value():
    assert of(b"").value.hex() in repr(of(b""))

import pytest

from sidecar.idempotency import codec
from sidecar.idempotency.claim import Claim
from sidecar.idempotency.codec import HEAD_BYTES, decode, encode_tail
from sidecar.idempotency.core import ForeignRecordError, Loss, NewerRecordError, State
from sidecar.idempotency.record import Response

ID = "a" * 64
CLAIM = Claim(ID, b"T" * 16, b"\x01\x01fingerprint", "örders", "c-1", 15.0, 100.0, span=bytes(range(24)))
RESPONSE = Response(201, ((b"Location", b"/\xff\n"), (b"", b"")), b"\0body\r\n")
LEASE_END = 1_700_000_015_000


def record(state=b"E", loss=b"-", response=None, moment=LEASE_END, version=b"1"):
    head = b"SI" + version + state + b"00" + loss + b"T" * 16 + b"%013d" % moment + b"1700000000000"
    assert len(head) == HEAD_BYTES
    return head + encode_tail(CLAIM, response)


def test_an_executing_record():
    found = decode(ID, record(), LEASE_END - 1)
    assert found.state is State.EXECUTING
    assert (found.id, found.token, found.fingerprint) == (ID, CLAIM.token, CLAIM.fingerprint)
    assert (found.route, found.correlation_id, found.span) == ("örders", "c-1", bytes(range(24)))
    assert (found.created_at, found.lease_until, found.settled_at) == (1_700_000_000.0, 1_700_000_015.0, None)
    assert (found.response, found.loss) == (None, None)


def test_its_lease_runs_out():
    found = decode(ID, record(), LEASE_END)
    assert (found.state, found.loss) == (State.UNKNOWN, Loss.LEASE)
    assert (found.lease_until, found.settled_at) == (None, 1_700_000_015.0)


@pytest.mark.parametrize(
    "response",
    [RESPONSE, Response(204, (), b""), Response(200, (), None), Response(500, ((b"a", b""),), b"")],
)
def test_a_completed_record(response):
    found = decode(ID, record(b"C", response=response), 0)
    assert (found.state, found.response, found.settled_at) == (State.COMPLETED, response, 1_700_000_015.0)


def test_an_unknown_outcome():
    found = decode(ID, record(b"U", b"t"), 0)
    assert (found.state, found.loss, found.response) == (State.UNKNOWN, Loss.TIMEOUT, None)


def test_a_freed_record_counts_as_absent():
    assert decode(ID, record(b"F"), 0) is None


def test_a_brief_look_needs_the_beginning_only():
    whole = record(b"C", response=RESPONSE)
    beginning = whole[: -len(RESPONSE.body) - 3]
    assert decode(ID, beginning, 0, brief=True).response == Response(201, (), None)
    assert decode(ID, whole, 0, brief=True).response == Response(201, (), None)


@pytest.mark.parametrize("value", [b"", b"x", b"[1,2]", b"SX1" + record()[3:]])
def test_a_foreign_value(value):
    with pytest.raises(ForeignRecordError, match="not written by a sidecar"):
        decode(ID, value, 0)


def test_a_record_of_a_newer_release():
    with pytest.raises(NewerRecordError, match="version"):
        decode(ID, record(version=b"2"), 0)


@pytest.mark.parametrize(
    "value",
    [
        b"SI1",
        record()[:HEAD_BYTES],
        record()[: HEAD_BYTES + 5],
        record()[:-1],
        record(b"C", response=RESPONSE)[: HEAD_BYTES + 40],
        record(b"X"),
        record(loss=b"?"),
        record()[:23] + b"x" * 13 + record()[36:],
    ],
)
def test_a_damaged_record(value):
    with pytest.raises(ForeignRecordError, match="damaged"):
        decode(ID, value, 0)


def test_headers_that_do_not_fill_their_place():
    whole = record(b"C", response=Response(200, ((b"ab", b"cd"),), b""))
    with pytest.raises(ForeignRecordError, match="damaged"):
        decode(ID, whole.replace(b"\0\0\0\2\0\0\0\2", b"\0\0\0\2\0\0\0\1"), 0)


def test_what_is_remembered_of_headers_is_bounded():
    for number in range(200):
        response = Response(200, ((b"x-a", b"%d" % number),), b"")
        assert decode(ID, record(b"C", response=response), 0).response == response
        assert len(codec._ENCODED) <= 64

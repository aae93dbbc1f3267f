import dataclasses
import datetime as dt
import uuid

import pytest

from sidecar.dlq.payload import payload_bytes


@dataclasses.dataclass
class Order:
    id: int


def test_values():
    assert payload_bytes({"id": 1, 2: [None, True]}) == b'{"id":1,"2":[null,true]}'
    assert payload_bytes(Order(7)) == b'{"id":7}'
    assert payload_bytes(dt.datetime(2024, 1, 1, tzinfo=dt.UTC)) == b'"2024-01-01T00:00:00+00:00"'
    assert payload_bytes(uuid.UUID(int=1)) == b'"00000000-0000-0000-0000-000000000001"'


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_stay_bytes(kind):
    assert payload_bytes(kind(b"\x00\xff")) == b"\x00\xff"


def test_what_json_cannot_express():
    assert payload_bytes({1, 2}) == b'"{1, 2}"'
    assert payload_bytes({"big": 2**70, ("a",): 1}) == b'{"big": 1180591620717411303424}'
    assert payload_bytes("\ud800") == b'"\\ud800"'


def test_what_contains_itself():
    loop = []
    loop.append(loop)
    assert payload_bytes(loop) == b'"[[...]]"'

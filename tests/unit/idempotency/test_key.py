import pytest

from sidecar.errors import IdempotencyKeyInvalid
from sidecar.idempotency.key import parse_key


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b"k", b"k"),
        (b'"k"', b"k"),
        (b"4f7e7a2c-1111-4222-8333-123456789abc", b"4f7e7a2c-1111-4222-8333-123456789abc"),
        (b"a/b=c:d+e~(f)<g>@[h]{i}?!#$%&'*^_`|.", b"a/b=c:d+e~(f)<g>@[h]{i}?!#$%&'*^_`|."),
        (b" \tk\t ", b"k"),
        (b' "k" ', b"k"),
        (b'"with space"', b"with space"),
        (b'" "', b" "),
        (b'"a, b; c"', b"a, b; c"),
        (rb'"say \"hi\""', b'say "hi"'),
        (rb'"back\\slash"', b"back\\slash"),
        (rb'"\""', b'"'),
        (b"k" * 255, b"k" * 255),
        (b'"' + b"k" * 255 + b'"', b"k" * 255),
        (b'"' + rb"\"" * 255 + b'"', b'"' * 255),
    ],
)
def test_valid_keys(value, key):
    assert parse_key([value]) == key


@pytest.mark.parametrize(
    "values",
    [
        [],
        [b"a", b"b"],
        [b"a", b"a"],
        [b""],
        [b"  "],
        [b'""'],
        [b"k" * 256],
        [b'"' + b"k" * 256 + b'"'],
        [b"two words"],
        [b"a,b"],
        [b"a;b"],
        [b'a"b'],
        [b"a\\b"],
        [b'"'],
        [b'"open'],
        [rb'"open\"'],
        [b'"open\\'],
        [rb'"bad \escape"'],
        [b'"k" x'],
        [b'"k";a=1'],
        [b'"a""b"'],
        [b'"a", "b"'],
        [b'k"'],
        [b"tab\there"],
        [b'"tab\there"'],
        [b"nul\0"],
        [b'"nul\0"'],
        [b'"del\x7f"'],
        [b"caf\xc3\xa9"],
        [b'"caf\xc3\xa9"'],
        [rb'"\"' + b"\xe9" + b'"'],
        [b"\xa0k"],
        [b"\x0bk"],
    ],
)
def test_invalid_keys(values):
    with pytest.raises(IdempotencyKeyInvalid) as caught:
        parse_key(values)
    assert caught.value.reason == "invalid"
    assert caught.value.answer_status == 400


def test_the_key_is_not_repeated_in_the_message():
    with pytest.raises(IdempotencyKeyInvalid) as caught:
        parse_key([b"my secret key"])
    assert "secret" not in caught.value.message

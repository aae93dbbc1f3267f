from hashlib import sha256

from sidecar.idempotency.sent import SentKeys


def record_id(number):
    return sha256(str(number).encode()).hexdigest()


def test_an_id_is_remembered_until_it_expires():
    sent = SentKeys(64)
    sent.add(record_id(1), 10.0)
    assert sent.holds(record_id(1), 9.9)
    assert not sent.holds(record_id(1), 10.0)
    assert not sent.holds(record_id(2), 0.0)


def test_adding_again_prolongs_and_does_not_take_a_second_place():
    sent = SentKeys(8)
    for _ in range(20):
        sent.add(record_id(1), 10.0)
    sent.add(record_id(2), 1.0)
    sent.add(record_id(1), 20.0)
    assert sent.holds(record_id(1), 19.0)
    assert sent.holds(record_id(2), 0.5)


def test_an_id_can_be_forgotten():
    sent = SentKeys(64)
    sent.add(record_id(1), 10.0)
    sent.forget(record_id(1))
    sent.forget(record_id(2))
    assert not sent.holds(record_id(1), 0.0)


def test_in_a_full_row_the_id_that_expires_first_gives_way():
    sent = SentKeys(8)
    for number in range(9):
        sent.add(record_id(number), 100.0 + number)
    assert not sent.holds(record_id(0), 0.0)
    assert all(sent.holds(record_id(number), 0.0) for number in range(1, 9))


def test_thousands_of_ids():
    sent = SentKeys(1 << 14)
    for number in range(5_000):
        sent.add(record_id(number), 10.0)
    held = sum(sent.holds(record_id(number), 1.0) for number in range(5_000))
    assert held > 4_950  # a few rows have more than eight of them
    assert not any(sent.holds(record_id(number), 1.0) for number in range(5_000, 10_000))

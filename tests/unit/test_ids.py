import re
import time
import uuid

from sidecar.ids import RandomPool, random_bytes, random_hex, two_uuid7_octets, uuid7, uuid7_of


class TestUuid7:
    def test_the_form(self):
        made = uuid.UUID(uuid7())
        assert (made.version, made.variant) == (7, uuid.RFC_4122)

    def test_it_begins_with_the_time(self):
        before = time.time_ns() // 1_000_000
        made = uuid.UUID(uuid7())
        assert before <= made.int >> 80 <= time.time_ns() // 1_000_000

    def test_no_two_are_alike_over_many_blocks_of_random_digits(self):
        assert len({uuid7() for _ in range(5000)}) == 5000

    def test_two_at_once(self):
        made = [identity for _ in range(500) for identity in two_uuid7_octets()]
        assert len(set(made)) == 1000
        assert all(uuid.UUID(identity.decode()).version == 7 for identity in made)
        assert made[0][:15] <= made[1][:15]

    def test_of_a_given_moment(self):
        """RFC 9562, section 5.7: 48 bits of time, the version, 12 random bits, the variant, 60 more."""
        assert uuid7_of(0x0123456789AB, b"\xff" * 9) == "01234567-89ab-7fff-8fff-ffffffffffff"
        assert uuid7_of(1, bytes(9)) == "00000000-0001-7000-8000-000000000000"


class TestRandomPool:
    def test_digits_are_never_given_out_twice(self):
        pool = RandomPool()
        taken = [pool.take(32) for _ in range(1000)]
        assert all(re.fullmatch(b"[0-9a-f]{32}", digits) for digits in taken)
        assert len(set(taken)) == 1000

    def test_a_whole_block_at_once(self):
        assert len(RandomPool().take(8192)) == 8192

    def test_what_is_left_of_a_block_is_forgotten_on_demand(self):
        """As a child must after ``fork``, or two processes would give the same ids."""
        pool, twin = RandomPool(), RandomPool()
        pool.take(2)
        twin._digits, twin._position = pool._digits, pool._position
        twin.refill()
        assert pool.take(32) != twin.take(32)


def test_random_octets():
    assert len(random_bytes(16)) == 16
    assert re.fullmatch("[0-9a-f]{32}", random_hex(16))

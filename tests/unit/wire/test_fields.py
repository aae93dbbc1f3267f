import pytest

from sidecar.wire.fields import NOTED, REMOVED, FieldRules, Fields, field_values, tokens, without_nominated


def block_of(*lines):
    return b"\r\n".join(lines)


def sort(rules, *lines):
    fields = rules.sort(block_of(*lines))
    assert fields.raw == b"".join(line + b"\r\n" for line in fields.lines)
    return fields.lines, fields.special, fields.count


@pytest.fixture
def rules():
    return FieldRules({b"noted": NOTED, b"removed": REMOVED, b"cookie": NOTED})


class TestFieldRules:
    @pytest.fixture(autouse=True, params=["first time", "again"])
    def warmed(self, request, rules):
        """A line that was seen before is recognised whole; it must mean the same."""
        if request.param == "again":
            sort(rules, b"X-A: 1", b"Noted: 1", b"Removed: 1", b"Cookie: a=b")

    def test_a_plain_field_is_passed_on_as_it_came(self, rules):
        assert sort(rules, b"X-A: 1") == ([b"X-A: 1"], {}, 1)

    def test_a_noted_field_is_passed_on_and_looked_at(self, rules):
        assert sort(rules, b"Noted: 1") == ([b"Noted: 1"], {b"noted": [b"1"]}, 1)

    def test_a_removed_field_is_only_looked_at(self, rules):
        assert sort(rules, b"Removed: 1") == ([], {b"removed": [b"1"]}, 1)

    def test_a_secret_is_treated_like_any_other_field(self, rules):
        assert sort(rules, b"Cookie: a=b") == ([b"Cookie: a=b"], {b"cookie": [b"a=b"]}, 1)

    def test_values_come_in_order_without_white_space_around_them(self, rules):
        _, special, count = sort(rules, b"noted:\t1 ", b"X-A: 1", b"NOTED: 2")
        assert special == {b"noted": [b"1", b"2"]}
        assert count == 3

    def test_only_space_and_tab_are_white_space(self, rules):
        _, special, _ = sort(rules, b"Noted: \xa01\x85")
        assert special == {b"noted": [b"\xa01\x85"]}

    @pytest.mark.parametrize(
        "line",
        [b"Noted", b"Noted : 1", b": 1", b" Noted: 1", b"Noted: \x0b", b"Noted: 1\r2", b"Noted: 1\n2", b""],
    )
    def test_a_line_that_breaks_the_grammar_spoils_the_block(self, rules, line):
        for _ in range(2):
            assert rules.sort(block_of(b"X-A: 1", line, b"Noted: 1")) is None


class TestAnIdempotencyKeyThatIsTheOnlyNewLine:
    HOST, NOTED, PLAIN = b"Host: a", b"Noted: 1", b"X-A: 1"

    @pytest.fixture
    def rules(self):
        return FieldRules({b"noted": NOTED, b"host": REMOVED, b"idempotency-key": NOTED})

    @pytest.mark.parametrize(
        "lines",
        [
            (HOST, b"Idempotency-Key: k1", NOTED, PLAIN),
            (HOST, NOTED, PLAIN, b"Idempotency-Key: k1"),
            (b"Idempotency-Key: k1", HOST, NOTED),
            (HOST, b"idempotency-key: k1", PLAIN),
            (HOST, b"Idempotency-Key:k1", PLAIN),
            (HOST, b'Idempotency-Key: "a b" ', PLAIN),
            (HOST, b"Idempotency-Key: ", PLAIN),
            (HOST, b"Idempotency-Key: \tk\t", PLAIN),
            (HOST, b"Idempotency-Key: k1", PLAIN, b"Idempotency-Key: k2"),
            (HOST, b"X-Old: Idempotency-Key: k", b"Idempotency-Key: k1"),
        ],
        ids=lambda lines: b" | ".join(lines).decode(),
    )
    def test_is_sorted_like_any_other(self, rules, lines):
        """Where its line stands among those that are passed on is all that may differ."""
        sort(rules, *(line for line in lines if b"dempotency-" not in line[:13].lower()))
        for _ in range(2):
            kept, special, count = sort(rules, *lines)
            keys = [line[16:].strip() for line in lines if line[:16].lower() == b"idempotency-key:"]
            assert special[b"idempotency-key"] == keys
            assert {name: values for name, values in special.items() if name != b"idempotency-key"} == {
                b"host": [b"a"],
                **({b"noted": [b"1"]} if self.NOTED in lines else {}),
            }
            assert sorted(kept) == sorted(line for line in lines if line != self.HOST)
            assert count == len(lines)

    def test_leaves_no_trace_in_what_is_remembered(self, rules):
        for number in range(3):
            sort(rules, self.HOST, b"Idempotency-Key: k%d" % number, self.PLAIN)
        assert rules.blocks[block_of(self.HOST, self.PLAIN)].special == {b"host": [b"a"]}
        assert not any(b"k2" in block for block in (*rules.blocks, *rules._known))

    @pytest.mark.parametrize("key", [b"a\x00b", b"a\x7f", b"a\x0bb"])
    def test_that_breaks_the_grammar_spoils_the_block(self, rules, key):
        assert rules.sort(block_of(self.HOST, b"Idempotency-Key: " + key, self.PLAIN)) is None

    def test_spoils_nothing_where_fields_with_that_name_are_not_looked_at(self):
        line = b"Idempotency-Key: k"
        assert sort(FieldRules({}), b"X-A: 1", line) == ([b"X-A: 1", line], {}, 2)

    def test_a_raw_block_has_all_lines(self, rules):
        fields = rules.sort(block_of(self.HOST, b"Idempotency-Key: k", self.PLAIN))
        assert fields.raw == b"X-A: 1\r\nIdempotency-Key: k\r\n"


class TestRememberedLines:
    def test_what_is_remembered_is_bounded(self, rules):
        for number in range(5000):
            sort(rules, b"X-%d: 1" % number, b"Noted: %d" % number)
            assert len(rules._known) <= 2048
        assert sort(rules, b"Noted: 3") == ([b"Noted: 3"], {b"noted": [b"3"]}, 1)

    @pytest.mark.parametrize("line", [b"Authorization: Basic eDp5", b"Cookie: a", b"Idempotency-Key: k"])
    def test_secrets_are_not_remembered(self, rules, line):
        sort(rules, line)
        assert line not in rules._known

    def test_long_lines_are_not_remembered(self, rules):
        line = b"X-A: " + b"a" * 200
        assert sort(rules, line) == ([line], {}, 1)
        assert line not in rules._known


class TestRememberedBlocks:
    LINES = (b"X-A: 1", b"Noted: 1")

    def test_one_whose_lines_have_all_come_before_is_recognised_whole(self, rules):
        assert rules.sort(block_of(*self.LINES)) is not rules.blocks.get(block_of(*self.LINES))
        assert rules.sort(block_of(*self.LINES)) is rules.blocks[block_of(*self.LINES)]

    @pytest.mark.parametrize(
        "line", [b"Authorization: Basic eDp5", b"X-Request-ID: 1", b"X-A: " + b"a" * 200]
    )
    def test_one_with_a_line_that_is_not_remembered_is_not_either(self, rules, line):
        for _ in range(3):
            sort(rules, *self.LINES, line)
        assert block_of(*self.LINES, line) not in rules.blocks

    def test_a_long_one_is_not(self, rules):
        lines = [b"X-%d: %b" % (number, b"a" * 100) for number in range(20)]
        for _ in range(3):
            sort(rules, *lines)
        assert block_of(*lines) not in rules.blocks

    def test_they_are_bounded(self, rules):
        lines = [b"X-%d: 1" % number for number in range(600)]
        sort(rules, *lines)
        for line in lines:
            sort(rules, line)
            assert len(rules.blocks) <= 513
        assert rules.blocks[b""].count == 0


def test_values_of_a_field_among_raw_lines():
    lines = [b"X-A: 1", b"x-a:\t2 ", b"X-AB: 3", b"X-A", b"X:A: 4"]
    assert field_values(lines, b"x-a") == [b"1", b"2"]


def test_members_of_a_list():
    assert tokens([b"Close , ,X-A\t", b"TE"]) == [b"close", b"", b"x-a", b"te"]


class TestNominated:
    LINES = (b"X-A: 1", b"x-a: 2", b"X-B: 3", b"Host: test")

    def remove(self, *names, special=None):
        fields = Fields.of(list(self.LINES), special or {}, 4)
        return without_nominated(list(names), fields)

    def test_what_connection_names_is_taken_out(self):
        assert self.remove(b"x-a").lines == [b"X-B: 3", b"Host: test"]
        assert self.remove(b"x-a").raw == b"X-B: 3\r\nHost: test\r\n"

    def test_the_fields_that_others_share_stay_as_they_are(self):
        fields = Fields.of(list(self.LINES), {b"x-a": [b"1", b"2"]}, 4)
        without_nominated([b"x-a"], fields)
        assert fields.lines == list(self.LINES)
        assert fields.special == {b"x-a": [b"1", b"2"]}

    def test_options_of_the_connection_are_no_fields(self):
        assert self.remove(b"close", b"keep-alive", b"", b"te", b"upgrade").lines == list(self.LINES)

    def test_what_was_noted_of_them_is_forgotten(self):
        assert self.remove(b"x-a", special={b"x-a": [b"1"], b"x-b": [b"3"]}).special == {b"x-b": [b"3"]}

    @pytest.mark.parametrize("name", [b"host", b"content-length", b"transfer-encoding", b"idempotency-key"])
    def test_what_frames_routes_or_protects_the_request_is_still_heeded(self, name):
        assert self.remove(name, special={name: [b"1"]}).special == {name: [b"1"]}

import pytest

from sidecar.wire.fields import NOTED, REMOVED, FieldRules, field_values, remove_nominated, tokens


def sort(rules, *lines):
    passed, special = [], {}
    count = rules.sort(b"\r\n".join(lines), passed, special)
    return passed, special, count


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
        _, special, _ = sort(rules, b"Noted: \xa01\x85\x0b")
        assert special == {b"noted": [b"\xa01\x85\x0b"]}


class TestRememberedLines:
    def test_what_is_remembered_is_bounded(self, rules):
        for number in range(5000):
            sort(rules, b"X-%d: 1" % number, b"Noted: %d" % number)
            assert len(rules._passed) + len(rules._known) <= 2048
        assert sort(rules, b"Noted: 3") == ([b"Noted: 3"], {b"noted": [b"3"]}, 1)

    @pytest.mark.parametrize("line", [b"Authorization: Basic eDp5", b"Cookie: a", b"Idempotency-Key: k"])
    def test_secrets_are_not_remembered(self, rules, line):
        sort(rules, line)
        assert line not in rules._passed
        assert line not in rules._known

    def test_long_lines_are_not_remembered(self, rules):
        line = b"X-A: " + b"a" * 200
        assert sort(rules, line) == ([line], {}, 1)
        assert line not in rules._passed


def test_values_of_a_field_among_raw_lines():
    lines = [b"X-A: 1", b"x-a:\t2 ", b"X-AB: 3", b"X-A", b"X:A: 4"]
    assert field_values(lines, b"x-a") == [b"1", b"2"]


def test_members_of_a_list():
    assert tokens([b"Close , ,X-A\t", b"TE"]) == [b"close", b"", b"x-a", b"te"]


class TestNominated:
    def remove(self, *names, special=None):
        lines = [b"X-A: 1", b"x-a: 2", b"X-B: 3", b"Host: test"]
        return remove_nominated(list(names), lines, {} if special is None else special)

    def test_what_connection_names_is_taken_out(self):
        assert self.remove(b"x-a") == [b"X-B: 3", b"Host: test"]

    def test_options_of_the_connection_are_no_fields(self):
        assert self.remove(b"close", b"keep-alive", b"", b"te", b"upgrade") == [
            *(b"X-A: 1", b"x-a: 2", b"X-B: 3", b"Host: test")
        ]

    def test_what_was_noted_of_them_is_forgotten(self):
        special = {b"x-a": [b"1"], b"x-b": [b"3"]}
        self.remove(b"x-a", special=special)
        assert special == {b"x-b": [b"3"]}

    @pytest.mark.parametrize("name", [b"host", b"content-length", b"transfer-encoding", b"idempotency-key"])
    def test_what_frames_routes_or_protects_the_request_is_still_heeded(self, name):
        special = {name: [b"1"]}
        self.remove(name, special=special)
        assert special == {name: [b"1"]}

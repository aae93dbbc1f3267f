import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sidecar.settings import yaml_source
from sidecar.settings.mistake import Invalid
from sidecar.settings.yaml_source import compose, parse_value, read


def tree_of(text, environ=None):
    document = compose(text, "file", environ or {})
    assert document.mistakes == []
    return document.tree


def mistakes_of(text, environ=None):
    try:
        return [str(mistake) for mistake in compose(text, "file", environ or {}).mistakes]
    except Invalid as invalid:
        return [str(mistake) for mistake in invalid.mistakes]


class TestValues:
    def test_scalars_stay_text(self):
        text = "a: 0.10\nb: on\nc: 0x1F\nd: 2024-01-01\ne: '5'\nf: 1_000\ng: no"
        assert tree_of(text) == {
            "a": "0.10",
            "b": "on",
            "c": "0x1F",
            "d": "2024-01-01",
            "e": "5",
            "f": "1_000",
            "g": "no",
        }

    def test_nothing_is_none_unless_quoted(self):
        assert tree_of("a:\nb: ~\nc: null\nd: ''\ne: 'null'") == {
            "a": None,
            "b": None,
            "c": None,
            "d": "",
            "e": "null",
        }

    def test_an_empty_file_is_an_empty_mapping(self):
        assert tree_of("") == tree_of("# nothing\n") == tree_of("---\n") == {}

    def test_a_byte_order_mark_is_skipped(self, tmp_path):
        file = tmp_path / "bom.yaml"
        file.write_bytes(b"\xef\xbb\xbfa: b\n")
        assert read(str(file), {}).tree == {"a": "b"}


class TestOrigins:
    def test_a_key_has_its_own_line_and_an_item_its_first(self):
        document = compose("a:\n  b:\n    c\n  d:\n  - x\n  -\n    - y\n", "file", {})
        assert document.origins == {
            (): "file:1",
            ("a",): "file:1",
            ("a", "b"): "file:2",
            ("a", "d"): "file:4",
            ("a", "d", 0): "file:5",
            ("a", "d", 1): "file:7",
            ("a", "d", 1, 0): "file:7",
        }

    def test_values_of_several_lines_do_not_shift_those_below(self):
        document = compose("a: '${LINES}'\nb: ${UNSET:-x}\n", "file", {"LINES": "1\n2\n3"})
        assert document.tree == {"a": "1 2 3", "b": "x"}
        assert document.origins["b",] == "file:2"


class TestEnvironment:
    @pytest.mark.parametrize(
        ("text", "environ", "value"),
        [
            ("${A}", {"A": "x"}, "x"),
            ("${A}", {"A": ""}, None),
            ("'${A}'", {"A": ""}, ""),
            ("${A:-d}", {}, "d"),
            ("${A:-d}", {"A": ""}, "d"),
            ("${A:-}", {}, None),
            ("${A:-a:-b}", {}, "a:-b"),
            ("x${A}y${B}z", {"A": "1", "B": "2"}, "x1y2z"),
            ("$${A}", {}, "${A}"),
            ("$A", {"A": "x"}, "$A"),
            ("${A}", {"A": "${B}"}, "${B}"),
            ("${A}", {"A": "[1, 2]"}, ["1", "2"]),
        ],
    )
    def test_variables(self, text, environ, value):
        assert tree_of(f"key: {text}", environ) == {"key": value}

    def test_a_variable_may_stand_for_a_key(self):
        assert tree_of("${A}: 1", {"A": "x"}) == {"x": "1"}

    def test_comments_are_left_alone(self):
        assert tree_of("# ${A}\n  # ${B}\nkey: 1") == {"key": "1"}

    def test_an_unset_one_is_a_mistake_at_its_key(self):
        assert mistakes_of("a:\n  - x\n  - ${A}") == [
            "file:3: a.1: the environment variable A is not set: set it, or write ${A:-default}"
        ]

    @pytest.mark.parametrize("expression", ["1A", "A-d", "A:d", "", "A B", "A:+x", "Ä"])
    def test_other_expressions_are_mistakes(self, expression):
        (mistake,) = mistakes_of(f"a: ${{{expression}}}")
        assert mistake.startswith(
            f"file:1: a: expected ${{NAME}} or ${{NAME:-default}}, got ${{{expression}}}"
        )


class TestAnchors:
    def test_aliases_and_merge_keys(self):
        text = (
            "base: &base {a: 1, b: 2}\n"
            "more: &more {b: 3, c: 4}\n"
            "one: {<<: *base, b: 9}\n"
            "two: {<<: [*base, *more]}\n"
            "three: *base\n"
        )
        tree = tree_of(text)
        assert tree["one"] == {"a": "1", "b": "9"}
        assert tree["two"] == {"a": "1", "b": "2", "c": "4"}
        assert tree["three"] == {"a": "1", "b": "2"}

    def test_an_alias_inside_its_own_anchor(self):
        assert mistakes_of("a: &a [*a]") == ["file:1: *a names no anchor before it"]

    def test_a_quoted_merge_key_is_a_key(self):
        assert tree_of("'<<': 1") == {"<<": "1"}


class TestBounds:
    def test_an_alias_bomb(self):
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
        (mistake,) = mistakes_of("\n".join(lines))
        assert mistake.endswith("too many values once aliases are expanded")

    def test_a_chain_of_aliases_is_not_too_deep_for_the_stack(self):
        lines = ["a0: &a0 x"] + [f"a{n}: &a{n} {{k: *a{n - 1}}}" for n in range(1, 100)]
        (mistake,) = mistakes_of("\n".join(lines))
        assert mistake.endswith("too many values once aliases are expanded")

    @pytest.mark.parametrize("depth", [100, 10_000])
    def test_nesting(self, depth):
        (mistake,) = mistakes_of("a: " + "[" * depth)
        assert "nest" in mistake

    def test_bytes(self, tmp_path, monkeypatch):
        monkeypatch.setattr(yaml_source, "MAX_BYTES", 1024)
        file = tmp_path / "large.yaml"
        file.write_text("a: " + "x" * 1024)
        with pytest.raises(Invalid, match="is larger than 1KiB"):
            read(str(file), {})

    def test_what_is_no_text(self, tmp_path):
        file = tmp_path / "binary.yaml"
        file.write_bytes(b"a: 1\nb: \xff\n")
        with pytest.raises(Invalid, match=r"binary\.yaml:2: is not UTF-8"):
            read(str(file), {})

    def test_control_characters(self):
        (mistake,) = mistakes_of("a: 1\nb: \x01\n")
        assert mistake.startswith("file:2: not valid YAML: ")

    @given(st.text(max_size=60))
    def test_anything_is_a_tree_or_a_mistake(self, text):
        mistakes_of(text, {"A": "b"})

    @given(st.text(alphabet="ab:- {}[],&*!|>'\"#%@`\n\t<?$~", max_size=60))
    def test_anything_like_yaml_is_a_tree_or_a_mistake(self, text):
        mistakes_of(text, {"a": "b"})


def test_the_parser_in_python_gives_the_same(monkeypatch):
    text = "a: &x {b: [1, ~], c: 'q'}\nd: *x\ne: {<<: *x}\nf: |\n  text\n"
    expected = compose(text, "file", {})
    monkeypatch.setattr(yaml_source, "_LOADER", yaml.SafeLoader)
    found = compose(text, "file", {})
    assert (found.tree, found.origins) == (expected.tree, expected.origins)


def test_a_value_of_its_own():
    assert parse_value("[a, {b: c}]") == ["a", {"b": "c"}]
    with pytest.raises(ValueError, match="not valid YAML"):
        parse_value("[a")
    with pytest.raises(ValueError, match="stands twice"):
        parse_value("{a: 1, a: 2}")

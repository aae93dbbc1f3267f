import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.routing import Pattern, Router, accepted_methods, normalise_host, normalise_path
from sidecar.settings.model import Match


def route(router, path, method="GET", host="localhost", listener="ingress"):
    return router.match(listener, host.encode(), method.encode(), path.encode())


def router_of(*matches, listeners=("ingress",)):
    return Router([(match, number) for number, match in enumerate(matches)], listeners)


class TestNormalisedPaths:
    @pytest.mark.parametrize(
        ("path", "normal"),
        [
            ("/", "/"),
            ("*", "*"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("/%61dmin", "/admin"),
            ("/%7Euser/%2D%2e%5f", "/~user/-._"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%2525", "/a%2525"),
            ("/a%zz%", "/a%zz%"),
            ("/a%C3%a4", "/a%C3%A4"),
            ("//a///b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/..", "/"),
            ("/../../a", "/a"),
            ("/a/%2e%2E/b", "/b"),
            ("/a//../b", "/b"),
            ("/a/..;/b", "/a/..;/b"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a/...", "/a/..."),
        ],
    )
    def test_one_spelling(self, path, normal):
        assert normalise_path(path.encode()) == normal.encode()

    @given(st.lists(st.sampled_from([b"/", b"a", b".", b"..", b"%2e", b"%2F", b"%", b"//"])).map(b"".join))
    def test_a_normal_path_stays_as_it_is(self, tail):
        normal = normalise_path(b"/" + tail)
        assert normalise_path(normal) == normal
        assert normal.startswith(b"/")
        assert not {b".", b".."} & set(normal.split(b"/"))


@pytest.mark.parametrize(
    ("host", "normal"),
    [
        ("Pay.Local", "pay.local"),
        ("pay.local:8080", "pay.local"),
        ("pay.local.", "pay.local"),
        ("pay.local.:80", "pay.local"),
        ("[::1]:80", "[::1]"),
        ("[::A]", "[::a]"),
        ("", ""),
    ],
)
def test_hosts(host, normal):
    assert normalise_host(host.encode()) == normal.encode()


class TestPatterns:
    def test_a_template(self):
        assert Pattern.parse("/users/{id}/x") == Pattern((b"users", None, b"x"), ((1, "id"),))

    def test_a_prefix_with_and_without_a_closing_slash(self):
        assert (
            Pattern.parse_prefix("/api/")
            == Pattern.parse_prefix("/api")
            == Pattern((b"api",), is_prefix=True)
        )
        assert Pattern.parse_prefix("/") == Pattern((), is_prefix=True)

    def test_nothing_is_the_prefix_of_everything(self):
        assert Pattern.of(Match()) == Pattern.of(Match(prefix="/"))

    def test_a_path_is_kept_in_its_normal_spelling(self):
        assert Pattern.parse("/a/../%62") == Pattern((b"b",))

    @pytest.mark.parametrize(
        "text", ["users", "/{", "/{id", "/x{id}", "/{1}", "/{a}/{a}", "/*", "/**", "/a?b", "/a#b"]
    )
    def test_malformed_templates(self, text):
        with pytest.raises(ValueError, match=r"path|segment|twice|wildcard"):
            Pattern.parse(text)

    def test_a_prefix_is_no_template(self):
        with pytest.raises(ValueError, match="use path for a template"):
            Pattern.parse_prefix("/{a}")


class TestMatching:
    def test_the_first_in_order_wins(self):
        router = router_of(Match(path="/a/{x}"), Match(path="/a/b"), Match(prefix="/a"), Match())
        assert route(router, "/a/b") == (0, {"x": b"b"})
        assert route(router, "/a/b/c") == (2, {})
        assert route(router, "/b") == (3, {})

    def test_an_exact_path_before_a_template(self):
        router = router_of(Match(path="/a/b"), Match(path="/a/{x}"))
        assert route(router, "/a/b") == (0, {})
        assert route(router, "/a/c") == (1, {"x": b"c"})

    def test_a_prefix_takes_whole_segments(self):
        router = router_of(Match(prefix="/api"))
        assert all(route(router, path) for path in ("/api", "/api/", "/api/x"))
        assert not any(route(router, path) for path in ("/apiary", "/ap", "/"))

    def test_a_template_takes_one_segment_that_is_not_empty(self):
        router = router_of(Match(path="/a/{x}"))
        assert route(router, "/a/1") == (0, {"x": b"1"})
        assert route(router, "/a/") is None
        assert route(router, "/a") is None
        assert route(router, "/a/1/") is None
        assert route(router, "/a/1/2") is None

    def test_parameters_are_segments_of_the_normalised_path(self):
        router = router_of(Match(path="/{a}/{b}"))
        assert route(router, "//%41/x/../y%2Fz") == (0, {"a": b"A", "b": b"y%2Fz"})

    def test_a_closing_slash_makes_a_difference(self):
        router = router_of(Match(path="/a"), Match(path="/a/"))
        assert route(router, "/a") == (0, {})
        assert route(router, "/a/") == (1, {})

    def test_methods(self):
        router = router_of(
            Match(path="/a", methods=("POST",)), Match(path="/a", methods=("GET",)), Match(path="/{x}")
        )
        assert route(router, "/a", "POST") == (0, {})
        assert route(router, "/a", "GET") == (1, {})
        assert route(router, "/a", "HEAD") == (1, {})
        assert route(router, "/a", "post") == (2, {"x": b"a"})

    def test_hosts(self):
        router = router_of(
            Match(host="pay.local"), Match(host="[::1]"), Match(path="/a"), Match(host="late.local")
        )
        assert route(router, "/a", host="PAY.local:80") == (0, {})
        assert route(router, "/", host="[::1]:8080") == (1, {})
        assert route(router, "/a", host="late.local") == (2, {})
        assert route(router, "/b", host="late.local") == (3, {})
        assert route(router, "/b", host="other") is None

    def test_listeners(self):
        router = router_of(Match(listener="egress"), Match(path="/a"), listeners=("ingress", "egress"))
        assert route(router, "/a", listener="egress") == (0, {})
        assert route(router, "/a", listener="ingress") == (1, {})
        assert route(router, "/b", listener="ingress") is None

    def test_a_listener_that_was_closed_on_a_reload(self):
        """Its connections may still have a request to read."""
        assert route(router_of(Match()), "/a", listener="closed") is None

    def test_options_asterisk_takes_routes_for_all_paths(self):
        router = router_of(Match(path="/*x"), Match(path="/{x}"), Match(prefix="/a"), Match())
        assert route(router, "*", "OPTIONS") == (3, {})
        assert route(router_of(Match(path="/{x}")), "*", "OPTIONS") is None

    def test_no_routes(self):
        assert route(router_of(), "/") is None

    def test_backtracking_finds_what_a_literal_step_misses(self):
        router = router_of(Match(path="/a/{x}/c"), Match(path="/{y}/b/d"))
        assert route(router, "/a/b/c") == (0, {"x": b"b"})
        assert route(router, "/a/b/d") == (1, {"y": b"a"})

    def test_a_path_of_a_thousand_segments(self):
        router = router_of(Match(path="/a/{x}/c"), Match(prefix="/a/b"))
        assert route(router, "/a/b" + "/x" * 1000) == (1, {})

    def test_spelling_evades_no_route(self):
        router = router_of(Match(path="/admin/users"), Match())
        for path in (
            "/admin/users",
            "//admin//users",
            "/x/../admin/users",
            "/%61dmin/./users",
            "/x/%2e%2e/admin/users",
        ):
            assert route(router, path) == (0, {})


def naive(matches, listener, host, method, path):
    """The rules word for word: every route in order, segment by segment."""
    segments = normalise_path(path)[1:].split(b"/")
    for number, match in enumerate(matches):
        methods = accepted_methods(match.methods)
        if match.listener not in {None, listener} or (methods is not None and method not in methods):
            continue
        if match.host is not None and match.host.encode() != normalise_host(host):
            continue
        pattern = Pattern.of(match)
        if len(segments) < len(pattern.segments) or (
            len(segments) > len(pattern.segments) and not pattern.is_prefix
        ):
            continue
        pairs = list(zip(pattern.segments, segments, strict=False))
        if all(bool(got) if wanted is None else wanted == got for wanted, got in pairs):
            return number, {name: segments[position] for position, name in pattern.names}
    return None


WORDS = st.sampled_from(["a", "b", "c", "{x}"])
PATHS = st.lists(WORDS, max_size=4).map(
    lambda words: "/" + "/".join(word.replace("x", f"x{n}") for n, word in enumerate(words))
)
METHODS = st.lists(st.sampled_from(["GET", "HEAD", "POST"]), max_size=2, unique=True).map(tuple)
MATCHES = st.builds(
    Match,
    listener=st.sampled_from([None, None, "ingress", "egress"]),
    host=st.sampled_from([None, None, "a.local", "b.local"]),
    path=PATHS,
    methods=METHODS,
) | st.builds(
    Match,
    host=st.sampled_from([None, "a.local"]),
    prefix=st.lists(st.sampled_from(["a", "b"]), max_size=3).map(lambda words: "/" + "/".join(words)),
    methods=METHODS,
)
REQUESTS = st.tuples(
    st.sampled_from(["ingress", "egress"]),
    st.sampled_from([b"a.local", b"B.local:80", b"other"]),
    st.sampled_from([b"GET", b"HEAD", b"POST"]),
    st.lists(st.sampled_from([b"a", b"b", b"c", b"", b"%61", b"."]), max_size=5).map(
        lambda s: b"/" + b"/".join(s)
    ),
)


@settings(max_examples=300)
@given(st.lists(MATCHES, max_size=12), st.lists(REQUESTS, min_size=1, max_size=8))
def test_it_finds_what_trying_all_routes_in_order_finds(matches, requests):
    router = router_of(*matches, listeners=("ingress", "egress"))
    for request in requests:
        assert router.match(*request) == naive(matches, *request)

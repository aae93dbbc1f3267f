import pytest

from sidecar.settings.addresses import Address, UpstreamUrl


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:8080", Address("0.0.0.0", 8080)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:8080", Address("::1", 8080)),
        ("[0:0::1]:8080", Address("::1", 8080)),
        ("unix:/run/sidecar.sock", Address(unix="/run/sidecar.sock")),
        ("unix:///run/sidecar.sock", Address(unix="/run/sidecar.sock")),
        ("unix:relative.sock", Address(unix="relative.sock")),
    ],
)
def test_addresses(text, address):
    assert Address.parse(text) == address
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ["8080", ":8080", "host:", "host:x", "host:-1", "host:65536", "host:080000", "host:٣", "::1:80", "[::1",
     "[x]:80", "a b:80", "unix:", "unix:" + "x" * 104, "unix:a\0b"],
)  # fmt: skip
def test_what_is_no_address(text):
    with pytest.raises(ValueError, match=r"expected|host name|port|IPv6|Unix socket"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("text", "is_loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("unix:/x", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("example.org:1", False),
    ],
)
def test_who_can_reach_it(text, is_loopback):
    assert Address.parse(text).is_loopback is is_loopback


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://127.0.0.1:3000", UpstreamUrl("http", "127.0.0.1", 3000)),
        ("http://App.local/", UpstreamUrl("http", "app.local", 80)),
        ("HTTPS://payments_internal", UpstreamUrl("https", "payments_internal", 443)),
        ("http://[::1]:3000", UpstreamUrl("http", "::1", 3000)),
        ("https://[::1]", UpstreamUrl("https", "::1", 443)),
        ("unix:/run/app.sock", UpstreamUrl("unix", unix="/run/app.sock")),
    ],
)
def test_upstream_urls(text, url):
    assert UpstreamUrl.parse(text) == url
    assert UpstreamUrl.parse(str(url)) == url
    assert url.is_tls is (url.scheme == "https")


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1:3000", "ftp://x", "http://", "http://user@x", "http://x/path", "http://x?q", "http://x#f", "http://x:0",
     "http://x:99999", "http://[::1", "http://a b", "unix:", "http://x:"],
)  # fmt: skip
def test_what_is_no_upstream_url(text):
    with pytest.raises(ValueError, match=r".") as caught:
        UpstreamUrl.parse(text)
    assert str(caught.value)


def test_credentials_are_not_echoed():
    with pytest.raises(ValueError, match="no user or password") as caught:
        UpstreamUrl.parse("http://user:secret@host")
    assert "secret" not in str(caught.value)

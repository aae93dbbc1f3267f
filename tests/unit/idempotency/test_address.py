import ssl

import pytest

from sidecar.idempotency.address import Credentials, Endpoint, parse_redis_url


def test_a_single_server():
    address = parse_redis_url("redis://localhost")
    assert address.topology == ""
    assert address.endpoints == (Endpoint("localhost", 6379),)
    assert (address.credentials, address.database, address.tls) == (None, 0, None)
    assert address.ssl_context() is None


@pytest.mark.parametrize(
    ("url", "credentials"),
    [
        ("redis://:secret@h", Credentials("", "secret")),
        ("redis://user:p%40ss@h", Credentials("user", "p@ss")),
        ("redis://user@h", Credentials("user", "")),
        ("redis://user:a@b@h", Credentials("user", "a@b")),
    ],
)
def test_credentials(url, credentials):
    assert parse_redis_url(url).credentials == credentials
    assert "secret" not in repr(parse_redis_url(url))


@pytest.mark.parametrize("url", ["redis://h:7/3", "redis://h:7?db=3", "redis://h:7/?db=3"])
def test_a_database(url):
    address = parse_redis_url(url)
    assert (address.endpoints, address.database) == ((Endpoint("h", 7),), 3)


def test_ipv6():
    (endpoint,) = parse_redis_url("redis://[::1]:7").endpoints
    assert endpoint == Endpoint("::1", 7)
    assert str(endpoint) == "[::1]:7"
    assert str(Endpoint("h", 7)) == "h:7"


def test_sentinels():
    address = parse_redis_url("redis+sentinel://u:p@a,b:7/main/2?sentinel_username=s&sentinel_password=sp")
    assert address.topology == "sentinel"
    assert address.endpoints == (Endpoint("a", 26379), Endpoint("b", 7))
    assert (address.master, address.database) == ("main", 2)
    assert address.credentials == Credentials("u", "p")
    assert address.sentinel_credentials == Credentials("s", "sp")


def test_a_cluster():
    address = parse_redis_url("rediss+cluster://a,b:7?ssl_cert_reqs=none")
    assert address.topology == "cluster"
    assert address.endpoints == (Endpoint("a", 6379), Endpoint("b", 7))
    context = address.ssl_context()
    assert context is not None
    assert context.verify_mode is ssl.CERT_NONE


def test_tls():
    context = parse_redis_url("rediss://h").ssl_context()
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    context = parse_redis_url("rediss://h?ssl_check_hostname=False&ssl_cert_reqs=Required").ssl_context()
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, False)


@pytest.mark.parametrize("parameter", ["ssl_ca_certs", "ssl_certfile"])
def test_files_of_tls_are_read(parameter, tmp_path):
    with pytest.raises(OSError, match=r"missing|No such file"):
        parse_redis_url(f"rediss://h?{parameter}={tmp_path}/missing").ssl_context()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://h", "expected redis://"),
        ("redis+magic://h", "expected redis://"),
        ("memory://", "expected redis://"),
        ("redis://", "expected HOST"),
        ("redis://:secret@", "expected HOST"),
        ("redis://h:x", "expected HOST"),
        ("redis://h:99999", "expected HOST"),
        ("redis://a,b", "one host"),
        ("redis://h/x", "number of a database"),
        ("redis://h/0/1", "number of a database"),
        ("redis+sentinel://h", "names the master"),
        ("redis+cluster://h/1", "database 0 only"),
        ("redis://h?ssl_cert_reqs=none", "unknown parameters"),
        ("redis://h?sentinel_password=x", "unknown parameters"),
        ("redis://h?timeout=1", "unknown parameters"),
        ("rediss://h?ssl_cert_reqs=optional", "ssl_cert_reqs is"),
        ("rediss://h?ssl_check_hostname=maybe", "ssl_check_hostname is"),
    ],
)
def test_mistakes(url, problem):
    with pytest.raises(ValueError, match=problem) as caught:
        parse_redis_url(url)
    assert "secret" not in str(caught.value)

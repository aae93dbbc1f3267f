"""The sidecar before httpbin under gunicorn, which nobody here wrote, driven by curl and httpx."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from contextlib import closing

import httpx
import pytest

from tests.support.sidecar import Sidecar, config_for

pytestmark = pytest.mark.xdist_group("httpbin")


@pytest.fixture(scope="module")
def proxy(httpbin, tmp_path_factory):
    with closing(Sidecar(config_for(httpbin.url), tmp_path_factory.mktemp("httpbin"))) as sidecar:
        yield sidecar


@pytest.fixture(scope="module")
def web(proxy):
    with httpx.Client(base_url=proxy.url, trust_env=False, timeout=15) as client:
        yield client


def curl(*arguments: str, stdin: bytes = b"") -> bytes:
    """What curl printed; an exit code other than 0 fails the test."""
    program = shutil.which("curl")
    assert program, "these tests need curl on the PATH"
    command = [program, "--silent", "--show-error", "--noproxy", "*", "--max-time", "20", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_curl_gets_what_the_service_says(proxy):
    seen = json.loads(curl(f"{proxy.url}/get?a=b&c=%20&show_env=1"))
    assert seen["args"] == {"a": "b", "c": " ", "show_env": "1"}
    assert seen["headers"]["Host"] == f"127.0.0.1:{proxy.port}"
    assert seen["headers"]["X-Forwarded-Proto"] == "http"
    assert seen["headers"]["Via"].startswith("1.1 ")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_curl_sends_bodies(proxy, method):
    url = f"{proxy.url}/{method.lower()}"
    seen = json.loads(curl("-X", method, "-d", "hello=world", url))
    assert seen["form"] == {"hello": "world"}


def test_curl_uploads_in_chunks(proxy, httpbin):
    body = bytes(range(256)) * 4096
    options = ("-H", "Transfer-Encoding: chunked", "-H", "Content-Type: application/octet-stream")
    seen, direct = (
        json.loads(curl(*options, "--data-binary", "@-", f"{url}/post", stdin=body))["data"]
        for url in (proxy.url, httpbin.url)
    )
    assert seen == direct
    assert seen.startswith("data:application/octet-stream;base64,")


def test_curl_waits_for_100_continue(proxy):
    """The 100 comes from gunicorn, through the sidecar; curl would wait 15 s for it."""
    options = ("-v", "--stderr", "-", "-H", "Expect: 100-continue", "--expect100-timeout", "15")
    output = curl(*options, "--data-binary", "@-", f"{proxy.url}/post", stdin=b"a" * 100_000)
    assert b"< HTTP/1.1 100 Continue" in output
    assert b"a" * 1000 in output


def test_curl_multipart(proxy):
    seen = json.loads(curl("-F", "file=@-;filename=a.txt", "-F", "x=1", f"{proxy.url}/post", stdin=b"hello"))
    assert seen["files"] == {"file": "hello"}
    assert seen["form"] == {"x": "1"}


def test_curl_http_1_0(proxy):
    output = curl("--http1.0", "-i", f"{proxy.url}/stream/3")
    head, _, body = output.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"transfer-encoding" not in head.lower()
    assert len(body.splitlines()) == 3


def test_curl_follows_redirects(proxy):
    assert json.loads(curl("-L", f"{proxy.url}/redirect/3"))["url"] == f"{proxy.url}/get"
    assert json.loads(curl("-L", f"{proxy.url}/absolute-redirect/2"))["url"] == f"{proxy.url}/get"


def test_curl_uses_one_connection_for_many_requests(proxy):
    urls = [
        f"{proxy.url}/{path}"
        for path in ("get", "status/204", "status/304", "image/png", "uuid", "status/500")
    ]
    options = [part for url in urls for part in ("-o", "/dev/null", url)]
    assert curl("-w", "%{num_connects} ", *options).split() == [b"1", *[b"0"] * (len(urls) - 1)]


def test_curl_head(proxy):
    head = curl("-I", f"{proxy.url}/image/png")
    assert b"content-type: image/png" in head.lower()
    assert int(head.lower().partition(b"content-length: ")[2].split()[0]) > 1000


SAME = [
    "/image/png",
    "/encoding/utf8",
    "/html",
    "/bytes/100000?seed=1",
    "/stream-bytes/100000?seed=1&chunk_size=1000",
    "/range/5000?chunk_size=100",
    "/base64/aGVsbG8=",
    "/gzip",
    "/deflate",
    "/robots.txt",
    "/status/418",
    "/status/404",
    "/response-headers?X-A=1&X-A=2",
]


@pytest.mark.parametrize("path", SAME)
def test_answers_are_the_same_with_and_without_the_sidecar(httpbin, web, path):
    direct = httpx.get(httpbin.url + path, headers={"Host": "test"}, trust_env=False)
    through = web.get(path, headers={"Host": "test"})
    assert (through.status_code, through.reason_phrase) == (direct.status_code, direct.reason_phrase)
    if path not in ("/gzip", "/deflate"):  # they show the request's headers
        assert through.content == direct.content
    ours = {"x-correlation-id", "x-request-id", "via"}
    changing = {"date", "connection", "content-length", "transfer-encoding"}
    names = set(direct.headers) - changing
    assert {name: through.headers.get(name) for name in names} == {
        name: direct.headers[name] for name in names
    }
    assert set(through.headers) - set(direct.headers) <= ours | changing


@pytest.mark.parametrize("status", [200, 201, 204, 205, 301, 304, 400, 401, 404, 409, 422, 429, 500, 503])
def test_every_status_passes(web, status):
    response = web.get(f"/status/{status}", follow_redirects=False)
    assert response.status_code == status
    assert "x-sidecar-reason" not in response.headers


def test_ranges_and_conditions_pass(web):
    part = web.get("/range/1000", headers={"Range": "bytes=10-19"})
    assert (part.status_code, len(part.content)) == (206, 10)
    assert web.get("/etag/abc", headers={"If-None-Match": '"abc"'}).status_code == 304
    assert (
        web.get("/cache", headers={"If-Modified-Since": "Mon, 01 Jan 2024 00:00:00 GMT"}).status_code == 304
    )


def test_cookies_and_credentials_pass(web):
    web.get("/cookies/set?a=1&b=2", follow_redirects=True)
    assert web.get("/cookies").json()["cookies"] == {"a": "1", "b": "2"}
    assert web.get("/basic-auth/u/p", auth=("u", "p")).status_code == 200
    assert web.get("/digest-auth/auth/u/p", auth=httpx.DigestAuth("u", "p")).status_code == 200


def test_a_streamed_body_arrives_in_pieces(web):
    with web.stream("GET", "/stream/20") as response:
        lines = [json.loads(line)["id"] for line in response.iter_lines()]
    assert lines == list(range(20))


def test_a_generator_is_uploaded_in_chunks(web):
    seen = web.post("/post", content=iter([b"one ", b"two ", b"three"])).json()
    assert seen["data"] == "one two three"
    assert seen["headers"].get("Transfer-Encoding", "").lower() == "chunked"


async def test_many_clients_at_once(proxy):
    async with httpx.AsyncClient(base_url=proxy.url, trust_env=False, timeout=30) as client:
        responses = await asyncio.gather(*(client.get("/anything", params={"n": n}) for n in range(100)))
    assert [it.json()["args"]["n"] for it in responses] == [str(n) for n in range(100)]
    assert len({it.headers["x-correlation-id"] for it in responses}) == 100

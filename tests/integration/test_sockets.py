"""Unix sockets and TLS, on either side of the sidecar."""

from __future__ import annotations

import os
import socket
import ssl
import stat
from contextlib import closing

import httpx
import pytest

from tests.support.messages import Broken, Ended
from tests.support.ports import free_port
from tests.support.raw import Client, refusal
from tests.support.sidecar import Sidecar, config_for
from tests.support.upstream import Do, Reply, Upstream, answer, chunked_answer

pytestmark = pytest.mark.xdist_group("sockets")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sockets")


@pytest.fixture(scope="module")
def rig(folder, authority):
    """One sidecar with every kind of listener and upstream; a path's first segment chooses the upstream."""
    with (
        Upstream() as plain,
        Upstream(unix=folder / "app.sock") as unix,
        Upstream(tls=authority.server_context()) as tls,
        Upstream(tls=authority.server_context(ask_client=True)) as mutual,
        Upstream(tls=authority.misnamed_context()) as misnamed,
    ):
        https = f"https://localhost:{tls.port}"
        client = {"cert": str(authority.client_cert), "key": str(authority.client_key)}
        certificate = {"cert": str(authority.cert), "key": str(authority.key)}
        ca = str(authority.ca)
        upstreams = {
            "plain": {"url": plain.url},
            "unix": {"url": unix.url, "host": "rewrite"},
            "tls": {"url": https, "tls": {"ca": ca}},
            "unverified": {"url": https, "tls": {"verify": False}},
            "stranger": {"url": https},
            "misnamed": {"url": f"https://localhost:{misnamed.port}", "tls": {"ca": ca}},
            "mutual": {"url": f"https://localhost:{mutual.port}", "tls": {"ca": ca, **client}},
            "certless": {"url": f"https://localhost:{mutual.port}", "tls": {"ca": ca}},
            "not-tls": {"url": f"https://localhost:{plain.port}", "tls": {"ca": ca}},
            "gone": {"url": f"unix:{folder / 'nobody.sock'}"},
        }
        routes = [{"name": name, "match": {"prefix": f"/{name}"}, "upstream": name} for name in upstreams]
        ports = [free_port(), free_port()]
        config = {
            "limits": {"header_timeout": "2s"},
            "upstreams": {name: {"retry": {"max_attempts": 1}, **it} for name, it in upstreams.items()},
            "routes": routes,
            "listeners": [
                {"name": "unix", "bind": f"unix:{folder / 'sidecar.sock'}"},
                {"name": "tls", "bind": f"127.0.0.1:{ports[0]}", "tls": certificate},
                {"name": "mutual", "bind": f"127.0.0.1:{ports[1]}", "tls": {**certificate, "client_ca": ca}},
            ],
        }
        with closing(Sidecar(config, folder)) as sidecar:
            yield {
                "sidecar": sidecar,
                "sock": folder / "sidecar.sock",
                "tls": ("127.0.0.1", ports[0]),
                "mutual": ("127.0.0.1", ports[1]),
                "upstreams": {
                    "plain": plain,
                    "unix": unix,
                    "tls": tls,
                    "mutual": mutual,
                    "misnamed": misnamed,
                },
            }


class TestUnixSockets:
    def test_curl_style_clients_and_httpx(self, rig):
        transport = httpx.HTTPTransport(uds=str(rig["sock"]))
        with httpx.Client(transport=transport, base_url="http://over.unix", trust_env=False) as client:
            for _ in range(3):
                response = client.post("/unix/a", content=b"x" * 100_000)
                assert (response.status_code, response.text) == (200, "ok")
        request = rig["upstreams"]["unix"].on("/unix/a")[-1]
        assert request.body == b"x" * 100_000
        assert request["host"] == b"localhost"
        assert request["x-forwarded-host"] == b"over.unix"
        assert request["x-forwarded-proto"] == b"http"

    def test_a_peer_without_an_address_is_told_so(self, rig):
        with Client(rig["sock"]) as client:
            assert client.request("GET", "/plain/peer", "X-Forwarded-For: 192.0.2.1").status == 200
        values = rig["upstreams"]["plain"].on("/plain/peer")[-1]["x-forwarded-for"].split(b", ")
        assert values == [b"192.0.2.1", b"unix"]

    def test_a_socket_without_a_server_is_unreachable(self, rig):
        with Client(rig["sock"]) as client:
            response = client.request("GET", "/gone")
            assert refusal(response) == (502, "UPSTREAM_UNREACHABLE")

    def test_it_appears_in_the_access_line(self, rig):
        with Client(rig["sock"]) as client:
            client.request("GET", "/unix/line", "X-Correlation-ID: unix-line")
        line = rig["sidecar"].access_line(correlation_id="unix-line")
        assert line["upstream_host"].endswith("app.sock")

    def test_a_stale_socket_is_taken_over_and_a_used_one_is_not(self, tmp_path, start_sidecar, upstream):
        path = tmp_path / "stale.sock"
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(path))
        listeners = [{"name": "ingress", "bind": f"unix:{path}"}]
        config = config_for(upstream.url, listeners=listeners)
        start_sidecar(config)
        with Client(path) as client:
            assert client.request("GET", "/").status == 200
        second = Sidecar(config, tmp_path, expect_ready=False)
        assert second.process.wait() == 1
        assert "sock" in second.process.output()
        with Client(path) as client:
            assert client.request("GET", "/").status == 200

    def test_a_file_in_the_way_is_not_removed(self, tmp_path, upstream):
        path = tmp_path / "precious"
        path.write_text("data")
        config = config_for(upstream.url, listeners=[{"name": "ingress", "bind": f"unix:{path}"}])
        sidecar = Sidecar(config, tmp_path, expect_ready=False)
        assert sidecar.process.wait() == 1
        assert path.read_text() == "data"

    def test_the_socket_is_gone_after_a_good_end(self, tmp_path, upstream):
        path = tmp_path / "end.sock"
        config = config_for(upstream.url, listeners=[{"name": "ingress", "bind": f"unix:{path}"}])
        with closing(Sidecar(config, tmp_path)):
            assert stat.S_ISSOCK(os.stat(path).st_mode)  # noqa: PTH116 - a socket, not a file
        assert not path.exists()


class TestTlsListener:
    def test_httpx(self, rig, authority):
        context = ssl.create_default_context(cafile=authority.ca)
        url = f"https://localhost:{rig['tls'][1]}"
        with httpx.Client(verify=context, base_url=url, trust_env=False) as client:
            for size in (0, 1, 16_384, 1_000_000):
                assert client.put("/plain/tls", content=b"x" * size).text == "ok"
        request = rig["upstreams"]["plain"].on("/plain/tls")[-1]
        assert request["x-forwarded-proto"] == b"https"
        assert request.body == b"x" * 1_000_000

    def test_answers_of_every_framing(self, rig, authority):
        plain = rig["upstreams"]["plain"]
        body = bytes(range(256)) * 2000
        scripts = [
            answer(body),
            chunked_answer(body[:1000], body[1000:]),
            answer(b"", status="404 Not Found"),
        ]
        with Client(rig["tls"], tls=authority.client_context()) as client:
            for script in scripts:
                plain.replies["/plain/framing"] = Reply([script])
                response = client.request("GET", "/plain/framing")
                assert response.body == (body if response.status == 200 else b"")

    def test_a_truncated_answer_is_seen_as_one(self, rig, authority):
        """No close_notify, no last chunk: what has come must not pass for the whole."""
        script = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\nhello"
        rig["upstreams"]["plain"].replies["/plain/cut"] = Reply([script, Do.RESET])
        url = f"https://localhost:{rig['tls'][1]}/plain/cut"
        context = ssl.create_default_context(cafile=authority.ca)
        with pytest.raises(httpx.TransportError), httpx.Client(verify=context, trust_env=False) as client:
            client.get(url)

    def test_plain_http_gets_nothing(self, rig):
        with Client(rig["tls"]) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            with pytest.raises(AssertionError):
                client.response()

    def test_a_handshake_may_take_no_longer_than_a_head(self, rig):
        with Client(rig["tls"], timeout=8) as silent:
            assert silent.end() == "closed"

    @pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
    def test_nothing_older_than_tls_1_2(self, rig, authority):
        context = authority.client_context()
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            Client(rig["tls"], tls=context)

    def test_alpn_offers_what_is_spoken(self, rig, authority):
        context = authority.client_context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        with Client(rig["tls"], tls=context) as client:
            assert client.socket.selected_alpn_protocol() == "http/1.1"
            assert client.request("GET", "/plain").status == 200

    def test_a_client_without_certificate_is_not_served(self, rig, authority):
        refused = pytest.raises((AssertionError, OSError))  # TLS 1.3 tells it with the first read
        with refused, Client(rig["mutual"], tls=authority.client_context()) as client:
            client.request("GET", "/plain/never")
        assert rig["upstreams"]["plain"].on("/plain/never") == []
        with Client(rig["mutual"], tls=authority.client_context(with_cert=True)) as client:
            assert client.request("GET", "/plain/always").status == 200


class TestTlsUpstream:
    @pytest.mark.parametrize("name", ["tls", "unverified", "mutual"])
    def test_requests_pass_and_connections_are_kept(self, rig, name):
        server = rig["upstreams"]["mutual" if name == "mutual" else "tls"]
        with Client(rig["sock"]) as client:
            for number in range(3):
                assert client.request("POST", f"/{name}/{number}", body=b"x" * 200_000).status == 200
        requests = [server.on(f"/{name}/{number}")[-1] for number in range(3)]
        assert {len(it.body) for it in requests} == {200_000}
        assert len({server.connection_of(it).number for it in requests}) == 1

    @pytest.mark.parametrize("name", ["stranger", "misnamed", "not-tls", "certless"])
    def test_who_cannot_be_trusted_gets_nothing(self, rig, name):
        with Client(rig["sock"]) as client:
            response = client.request("POST", f"/{name}/secret", "X-Correlation-ID: " + name, body=b"secret")
            assert refusal(response) == (502, "UPSTREAM_UNREACHABLE")
        for server in rig["upstreams"].values():
            assert server.on(f"/{name}/secret") == []
        reasons = {
            "stranger": {"tls"},
            "misnamed": {"tls"},
            "not-tls": {"tls", "connect"},
            "certless": {"reset", "tls"},
        }
        line = rig["sidecar"].access_line(correlation_id=name)
        assert line["cause"] in reasons[name]

    @pytest.mark.parametrize("cut", [Do.RESET, Do.CLOSE])
    def test_an_answer_cut_off_before_its_end_is_seen_as_cut_off(self, rig, cut):
        """Without a close_notify, what has come may not be the whole (RFC 9112, section 9.8)."""
        server = rig["upstreams"]["tls"]
        server.replies["/tls/cut"] = Reply([b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", cut])
        with Client(rig["sock"]) as client:
            client.send(b"GET /tls/cut HTTP/1.1\r\nHost: test\r\n\r\n")
            with pytest.raises((Ended, Broken)):
                client.response()

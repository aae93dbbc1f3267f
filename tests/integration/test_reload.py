"""A good file takes over in one step and cuts nothing; a bad one changes nothing, and is told."""

from __future__ import annotations

import copy
import ssl
import threading
from contextlib import closing

import httpx
import pytest

from tests.support.certificates import Authority
from tests.support.ports import free_port
from tests.support.raw import Client, error_of
from tests.support.sidecar import Sidecar, config_for
from tests.support.upstream import OK, Do, Reply, Upstream, answer
from tests.support.waiting import eventually


@pytest.fixture
def two():
    with Upstream(Reply([answer(b"one")])) as one, Upstream(Reply([answer(b"two")])) as other:
        yield one, other


@pytest.fixture
def sidecar(start_sidecar, two):
    return start_sidecar(config_for(two[0].url))


def body_of(sidecar, target="/", **options):
    with sidecar.client() as client:
        return client.request("GET", target, **options).body


def count(sidecar, name):
    return sidecar.metric(f"config_{name}_total")


class TestGoodFiles:
    def test_sighup(self, sidecar, two):
        assert body_of(sidecar) == b"one"
        sidecar.write(config_for(two[1].url))
        sidecar.reload()
        assert body_of(sidecar) == b"two"
        sidecar.wait_log(lambda line: line["event"] == "reloaded", "the reload is logged")
        assert count(sidecar, "reload_failures") == 0

    def test_a_change_of_the_file(self, sidecar, two):
        sidecar.write(config_for(two[1].url))
        eventually(lambda: body_of(sidecar) == b"two", "the new file is in force")

    def test_a_file_that_is_written_in_place(self, sidecar, two):
        text = sidecar.file.read_text().replace(two[0].url, two[1].url)
        sidecar.file.write_text(text)
        eventually(lambda: body_of(sidecar) == b"two", "the new file is in force")

    def test_a_symbolic_link_that_is_turned_over(self, start_sidecar, two, tmp_path):
        """As Kubernetes updates a mounted ConfigMap."""
        first = start_sidecar(config_for(two[0].url))
        data = tmp_path / "data"
        for name, upstream in zip(("a", "b"), two, strict=True):
            (data / name).mkdir(parents=True)
            text = first.file.read_text().replace(two[0].url, upstream.url)
            (data / name / "sidecar.yaml").write_text(text)
        link = tmp_path / "current"
        link.symlink_to(data / "a")
        first.stop()
        arguments = ["--config", str(link / "sidecar.yaml")]
        sidecar = start_sidecar(None, arguments=arguments, port=first.port, expect_ready=False)
        sidecar.admin_port = first.admin_port
        sidecar.wait_ready()
        assert body_of(sidecar) == b"one"
        new = tmp_path / "new"
        new.symlink_to(data / "b")
        new.rename(link)
        eventually(lambda: body_of(sidecar) == b"two", "the new file is in force")

    def test_everything_that_routes_are_made_of(self, sidecar, two):
        config = config_for(two[0].url)
        config["upstreams"]["other"] = {"url": two[1].url}
        config["routes"].insert(0, {"name": "new", "match": {"path": "/new/{id}"}, "upstream": "other"})
        sidecar.write(config)
        sidecar.reload()
        assert (body_of(sidecar, "/new/1"), body_of(sidecar, "/old")) == (b"two", b"one")
        config["routes"] = [{"name": "only", "match": {"path": "/only"}, "upstream": "other"}]
        sidecar.write(config)
        sidecar.reload()
        with sidecar.client() as client:
            assert client.request("GET", "/new/1").status == 404
            assert client.request("GET", "/only").body == b"two"

    def test_limits_and_timeouts(self, sidecar, two):
        never = threading.Event()
        two[0].replies["/slow"] = Reply([never])
        config = config_for(two[0].url, limits={"body": "10B"})
        config["upstreams"]["app"].update(timeouts={"first_byte": "100ms"}, retry={"max_attempts": 1})
        sidecar.write(config)
        sidecar.reload()
        with sidecar.client() as client:
            assert client.request("POST", "/", body=b"x" * 11).status == 413
        with sidecar.client() as client:
            assert client.request("GET", "/slow").status == 504
        never.set()

    def test_the_level_of_the_log(self, sidecar, two):
        sidecar.write(config_for(two[0].url, log={"level": "error"}))
        sidecar.reload()
        body_of(sidecar, "/quiet")
        sidecar.write(config_for(two[0].url))
        sidecar.reload()
        body_of(sidecar, "/loud")
        sidecar.access_line(path="/loud")
        assert sidecar.access_lines(path="/quiet") == []

    def test_an_open_breaker_stays_open(self, sidecar, two):
        two[0].reply = Reply([Do.CLOSE])
        with sidecar.client() as client:
            for _ in range(5):
                client.request("POST", "/", body=b"")
            assert error_of(client.request("POST", "/", body=b""))["code"] == "CIRCUIT_OPEN"
        config = config_for(two[0].url)
        config["routes"][0]["name"] = "renamed"
        sidecar.write(config)
        sidecar.reload()
        with sidecar.client() as client:
            assert error_of(client.request("POST", "/", body=b""))["code"] == "CIRCUIT_OPEN"

    def test_kept_responses_stay(self, sidecar, two):
        with sidecar.client() as client:
            client.request("POST", "/", "Idempotency-Key: k", body=b"")
            sidecar.write(config_for(two[1].url))
            sidecar.reload()
            again = client.request("POST", "/", "Idempotency-Key: k", body=b"")
        assert (again.body, again["x-idempotent-replayed"]) == (b"one", b"true")


class TestNothingIsCut:
    def test_a_request_in_flight_finishes_under_the_old_file(self, sidecar, two):
        go_on = threading.Event()
        two[0].replies["/slow"] = Reply([go_on, answer(b"one, late")])
        with sidecar.client() as client:
            client.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
            two[0].wait_request("/slow")
            sidecar.write(config_for(two[1].url))
            sidecar.reload()
            go_on.set()
            assert client.response().body == b"one, late"
            assert client.request("GET", "/").body == b"two"

    def test_bodies_in_both_directions(self, sidecar, two):
        def echo(connection, request):
            connection.read_body(request)
            connection.send(answer(request.body))

        two[0].reply = echo
        with sidecar.client() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhello")
            two[0].wait_request("/")
            sidecar.write(config_for(two[1].url))
            sidecar.reload()
            client.send(b"world")
            assert client.response("POST").body == b"helloworld"

    def test_tunnels_and_event_streams_go_on(self, sidecar, two):
        go_on = threading.Event()
        two[0].replies["/tunnel"] = Reply(
            [b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n", go_on, b"through"]
        )
        two[0].replies["/events"] = Reply(
            [
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n",
                go_on,
                b"event",
            ]
        )
        with sidecar.client() as tunnel, sidecar.client() as events:
            tunnel.send(b"GET /tunnel HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")
            events.send(b"GET /events HTTP/1.1\r\nHost: test\r\n\r\n")
            assert (tunnel.head().status, events.head().status) == (101, 200)
            sidecar.write(config_for(two[1].url))
            sidecar.reload()
            go_on.set()
            assert b"".join(tunnel.reader.pieces(7)) == b"through"
            assert b"event" in b"".join(events.reader.pieces(8))

    def test_idle_connections_stay_open(self, sidecar, two):
        clients = [sidecar.client() for _ in range(20)]
        for client in clients:
            assert client.request("GET", "/").body == b"one"
        sidecar.write(config_for(two[1].url))
        sidecar.reload()
        for client in clients:
            assert client.request("GET", "/").body == b"two"
            client.close()

    def test_connections_to_the_old_upstream_are_let_go(self, sidecar, two):
        body_of(sidecar)
        sidecar.write(config_for(two[1].url))
        sidecar.reload()
        two[0].connections[0].wait_end()


class TestListeners:
    def listeners(self, *ports, **options):
        return [{"name": f"l{port}", "bind": f"127.0.0.1:{port}", **options} for port in ports]

    def test_new_ones_open_and_old_ones_close(self, start_sidecar, two):
        first, second, third = free_port(), free_port(), free_port()
        sidecar = start_sidecar(config_for(two[0].url, listeners=self.listeners(first, second)))
        with Client(("127.0.0.1", first)) as kept, Client(("127.0.0.1", second)) as dropped:
            assert kept.request("GET", "/").status == dropped.request("GET", "/").status == 200
            sidecar.write(config_for(two[1].url, listeners=self.listeners(first, third)))
            sidecar.reload()
            assert kept.request("GET", "/").body == b"two"
            assert dropped.end() == "closed"
            with Client(("127.0.0.1", third)) as client:
                assert client.request("GET", "/").body == b"two"
            with pytest.raises(ConnectionRefusedError):
                Client(("127.0.0.1", second))

    def test_a_request_on_one_that_closes_is_answered(self, start_sidecar, two):
        first, second = free_port(), free_port()
        go_on = threading.Event()
        two[0].replies["/slow"] = Reply([go_on, OK])
        sidecar = start_sidecar(config_for(two[0].url, listeners=self.listeners(first, second)))
        with Client(("127.0.0.1", second)) as client:
            client.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n" * 2)
            two[0].wait_request("/slow")
            sidecar.write(config_for(two[0].url, listeners=self.listeners(first)))
            sidecar.reload()
            go_on.set()
            response = client.response()
            assert (response.status, response["connection"]) == (200, b"close")
            client.end()

    def test_another_name_for_the_same_port(self, start_sidecar, two):
        port = free_port()
        sidecar = start_sidecar(config_for(two[0].url, listeners=self.listeners(port)))
        renamed = [{"name": "renamed", "bind": f"127.0.0.1:{port}"}]
        config = config_for(two[1].url, listeners=renamed)
        config["routes"][0]["match"] = {"listener": "renamed"}
        sidecar.write(config)
        sidecar.reload()
        assert count(sidecar, "reloads") == 1
        with Client(("127.0.0.1", port)) as client:
            assert client.request("GET", "/").body == b"two"

    def test_tls_for_a_port_that_had_none(self, start_sidecar, two, authority):
        port = free_port()
        sidecar = start_sidecar(config_for(two[0].url, listeners=self.listeners(port)))
        tls = {"cert": str(authority.cert), "key": str(authority.key)}
        sidecar.write(config_for(two[0].url, listeners=self.listeners(port, tls=tls)))
        sidecar.reload()
        with Client(("127.0.0.1", port), tls=authority.client_context()) as client:
            assert client.request("GET", "/").body == b"one"

    def test_a_renewed_certificate(self, start_sidecar, two, tmp_path):
        """The same paths, other files: connections go on, handshakes get the new one."""
        old, new = (Authority(make(tmp_path / name)) for name in ("old", "new"))
        files = {"cert": tmp_path / "cert.pem", "key": tmp_path / "key.pem"}

        def install(authority):
            files["cert"].write_bytes(authority.cert.read_bytes())
            files["key"].write_bytes(authority.key.read_bytes())

        install(old)
        port = free_port()
        tls = {name: str(path) for name, path in files.items()}
        sidecar = start_sidecar(config_for(two[0].url, listeners=self.listeners(port, tls=tls)))
        with Client(("127.0.0.1", port), tls=old.client_context()) as client:
            assert client.request("GET", "/").status == 200
            install(new)
            sidecar.reload()
            assert client.request("GET", "/").status == 200
        with Client(("127.0.0.1", port), tls=new.client_context()) as client:
            assert client.request("GET", "/").status == 200
        with pytest.raises(ssl.SSLError):
            Client(("127.0.0.1", port), tls=old.client_context())

    def test_an_address_that_is_taken_changes_nothing(self, start_sidecar, two):
        port = free_port()
        sidecar = start_sidecar(config_for(two[0].url, listeners=self.listeners(port)))
        taken = two[1].port
        sidecar.write(config_for(two[1].url, listeners=self.listeners(port, taken)))
        sidecar.reload()
        assert count(sidecar, "reload_failures") == 1
        with Client(("127.0.0.1", port)) as client:
            assert client.request("GET", "/").body == b"one"


def make(folder):
    folder.mkdir()
    return folder


BAD = {
    "not YAML": "upstreams: [",
    "empty": "",
    "unknown key": "upstreams: {app: {url: http://127.0.0.1:1, timeout: 1s}}",
    "unknown upstream": "upstreams: {app: {url: http://127.0.0.1:1}}\nroutes: [{name: a, upstream: b}]",
    "out of range": "upstreams: {app: {url: http://127.0.0.1:1, timeouts: {connect: 0s}}}",
    "unset variable": "upstreams: {app: {url: '${NO_SUCH_VARIABLE}'}}",
    "missing certificate": (
        "upstreams: {app: {url: http://127.0.0.1:1}}\n"
        "listeners: [{name: a, bind: '127.0.0.1:0', tls: {cert: /nowhere, key: /nowhere}}]"
    ),
}


class TestBadFiles:
    @pytest.mark.parametrize("name", BAD)
    def test_one_changes_nothing_and_is_told(self, sidecar, name):
        good = sidecar.file.read_text()
        sidecar.write_text(BAD[name])
        sidecar.reload()
        assert body_of(sidecar) == b"one"
        assert count(sidecar, "reload_failures") == 1
        assert count(sidecar, "reloads") == 0
        line = sidecar.wait_log(lambda line: line["event"] == "reload failed", "the failure is logged")
        assert line["level"] == "error"
        assert line["mistakes"]
        sidecar.write_text(good)
        sidecar.reload()
        assert count(sidecar, "reloads") == 1

    def test_a_file_that_is_gone(self, sidecar):
        sidecar.file.unlink()
        sidecar.reload()
        assert body_of(sidecar) == b"one"
        assert count(sidecar, "reload_failures") >= 1

    def test_what_needs_a_restart_is_refused_and_named(self, sidecar, two):
        sidecar.write(config_for(two[1].url, service="another"))
        sidecar.reload()
        assert body_of(sidecar) == b"one"
        line = sidecar.wait_log(lambda line: line["event"] == "reload failed", "the failure is logged")
        assert "service" in line["mistakes"][0]
        assert "restart" in line["mistakes"][0]


class Load:
    """Clients of every kind, each in a thread of its own, until they are stopped or meet a problem."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar
        self._stop = threading.Event()
        self.problems: list[Exception] = []
        self.served = 0
        kinds = [self._keep_alive, self._pipelined, self._with_keys, self._through_httpx]
        self._threads = [threading.Thread(target=self._run, args=(converse,)) for converse in kinds]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind, error, trace):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, converse) -> None:
        turn = 0
        try:
            # Pauses, because it is the reloads that are tested, not the machine.
            while not self._stop.wait(0.1):
                converse(turn)
                turn += 1
                self.served += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the test looks for
            self.problems.append(error)

    def _keep_alive(self, turn: int) -> None:
        with self._sidecar.client() as client:
            for number in range(20):
                body = client.request("POST", f"/{turn}/{number}", body=b"x" * 1000).body
                assert body in (b"one", b"two"), body

    def _pipelined(self, turn: int) -> None:
        with self._sidecar.client() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n" * 20)
            assert {client.response().status for _ in range(20)} == {200}

    def _with_keys(self, turn: int) -> None:
        key = f"Idempotency-Key: {turn}"
        with self._sidecar.client() as client:
            first, again = (client.request("POST", "/", key, body=b"") for _ in range(2))
        assert (first.status, again["x-idempotent-replayed"]) == (200, b"true")
        assert first.body == again.body

    def _through_httpx(self, turn: int) -> None:
        # Unless it is told not to, each client reads the certificates that it trusts: longer than it is used.
        with httpx.Client(base_url=self._sidecar.url, trust_env=False, verify=False) as client:
            for _ in range(5):
                assert client.get("/").status_code == 200


@pytest.mark.timeout(240)
def test_a_hundred_reloads_under_load_without_an_error(two, tmp_path):
    """The file goes to and fro between two upstreams, with a further listener and without."""
    configs = [config_for(two[0].url), config_for(two[1].url)]
    with closing(Sidecar(copy.deepcopy(configs[0]), tmp_path)) as sidecar:
        configs[1]["listeners"] = [
            {"name": "ingress", "bind": f"127.0.0.1:{sidecar.port}"},
            {"name": "extra", "bind": f"127.0.0.1:{free_port()}"},
        ]
        with Load(sidecar) as load:
            for turn in range(100):
                sidecar.write(copy.deepcopy(configs[(turn + 1) % 2]))
                sidecar.reload()
                assert load.problems == []
        assert load.problems == []
        assert load.served > 100
        assert count(sidecar, "reloads") >= 100
        assert count(sidecar, "reload_failures") == 0
        assert [line for line in sidecar.access_lines() if line["status"] not in (200, 201)] == []
        # The watch over the file may just have had it read once more, which a child process does.
        eventually(
            lambda: sidecar.resident_bytes() < 64 << 20, "no configuration of the hundred is still held"
        )

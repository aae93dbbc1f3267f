"""Strangers, other people's web pages, and names that point elsewhere do not reach the admin port."""

from __future__ import annotations

import gzip
import socket

import httpx
import pytest

from tests.support.ports import free_port
from tests.support.sidecar import config_for
from tests.support.waiting import PATIENCE

TOKEN = "opensesame"


def ask(sidecar, method, path, **options):
    return sidecar.ask(method, path, **options)


@pytest.fixture
def locked(start_sidecar, upstream):
    port = free_port()
    config = config_for(upstream.url, admin={"bind": f"127.0.0.1:{port}", "token": TOKEN})
    sidecar = start_sidecar(config, expect_ready=False)
    sidecar.admin_port = port
    sidecar.wait_ready()
    return sidecar


def test_all_but_health_and_metrics_need_the_token(locked):
    for path in ("/healthz", "/readyz", "/metrics"):
        assert ask(locked, "GET", path).status_code == 200
    for path in ("/", "/openapi.json", "/admin/status", "/admin/config", "/admin/live", "/admin/nothing"):
        response = ask(locked, "GET", path)
        assert response.status_code == 401, path
        assert response.headers["www-authenticate"].startswith("Bearer")
        assert response.json()["error"]["code"] == "UNAUTHORIZED"
    assert ask(locked, "POST", "/admin/reload", json={}).status_code == 401
    assert ask(locked, "POST", "/events/ORDER", json={}).status_code == 401


def test_another_token_is_none(locked):
    for value in ["Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer"]:
        assert ask(locked, "GET", "/admin/status", headers={"Authorization": value}).status_code == 401


def test_changes_are_told_with_the_tokens_name_and_never_with_the_token(locked):
    response = ask(
        locked,
        "PUT",
        "/admin/log-level",
        json={"level": "debug", "reason": "look closer"},
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    assert response.status_code == 200
    line = locked.wait_log(lambda line: line["event"] == "admin change", "the change is told")
    assert (line["who"], line["peer"], line["why"]) == ("admin.token", "127.0.0.1", "look closer")
    assert TOKEN not in "\n".join(locked.process.stdout.all())


def test_a_browser_without_the_token_gets_the_page_that_asks_for_it(locked):
    response = ask(locked, "GET", "/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert response.status_code == 401
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert 'id="token"' in response.text
    assert TOKEN not in response.text


def test_a_name_that_points_here_is_not_enough(sidecar):
    for host in ("evil.example", f"evil.example:{sidecar.admin_port}"):
        for path in ("/", "/admin/status", "/metrics"):
            response = ask(sidecar, "GET", path, headers={"Host": host})
            assert response.status_code == 403, (host, path)
    for host in ("localhost", f"localhost:{sidecar.admin_port}", "[::1]:1"):
        assert ask(sidecar, "GET", "/admin/status", headers={"Host": host}).status_code == 200


def test_a_port_for_scrapers_answers_to_any_name_and_to_nothing_else(start_sidecar, upstream):
    port = free_port()
    sidecar = start_sidecar(config_for(upstream.url, metrics={"bind": f"127.0.0.1:{port}"}))
    with httpx.Client(
        base_url=f"http://127.0.0.1:{port}", headers={"Host": "sidecar.svc"}, trust_env=False
    ) as scraper:
        for path in ("/healthz", "/readyz", "/metrics"):
            assert scraper.get(path).status_code == 200
        for path in ("/", "/admin/status", "/openapi.json"):
            assert scraper.get(path).status_code == 404
    assert sidecar.get("/metrics").status_code == 200


def test_pages_of_other_origins_are_refused(sidecar):
    for origin in ["http://evil.example", "http://127.0.0.1:1", "null", "https://localhost", "file://"]:
        for method, path in (
            ("GET", "/admin/status"),
            ("POST", "/admin/reload"),
            ("OPTIONS", "/admin/reload"),
        ):
            response = ask(
                sidecar, method, path, headers={"Origin": origin, "Content-Type": "application/json"}
            )
            assert response.status_code == 403
            assert "access-control-allow-origin" not in response.headers


def test_the_page_itself_may_change_things_with_json_alone(sidecar):
    own = {"Origin": sidecar.admin}
    json_type, form = {"Content-Type": "application/json"}, {"Content-Type": "text/plain"}
    assert ask(sidecar, "POST", "/admin/reload", headers={**own, **form}, content=b"{}").status_code == 415
    assert ask(sidecar, "POST", "/admin/reload", headers=own).status_code == 415
    assert (
        ask(sidecar, "POST", "/admin/reload", headers={**own, **json_type}, content=b"{}").status_code == 200
    )


def test_answers_are_kept_from_caches_frames_and_sniffers(sidecar):
    headers = sidecar.get("/admin/status").headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    policy = sidecar.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


def test_what_is_no_http_is_told_in_a_line_and_shows_nothing(sidecar):
    for sent in (
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\r\nHost: a\r\nAuthoriz ation: Bearer opensesame\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"POST /admin/reload HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /admin/status HTTP/1.1\r\n\r\n",
        b"GET /admin/status HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", sidecar.admin_port), PATIENCE) as connection:
            connection.sendall(sent)
            assert connection.recv(1000).split(b" ")[1] == b"400", sent
    told = "malformed request: "
    sidecar.wait_log(lambda line: line.get("message", "").startswith(told), "a malformed request is told")
    assert "opensesame" not in "\n".join(sidecar.process.stdout.all())
    assert sidecar.get("/admin/status").status_code == 200


def test_probes_of_http_1_0_name_no_host(sidecar):
    with socket.create_connection(("127.0.0.1", sidecar.admin_port), PATIENCE) as connection:
        connection.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.0 200 OK")


def test_compressed_bodies_are_refused(sidecar):
    bomb = gzip.compress(b" " * 10_000_000)
    response = ask(sidecar, "POST", "/admin/reload", content=bomb, headers={"Content-Encoding": "gzip"})
    assert (response.status_code, response.json()["error"]["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


def test_a_body_that_breaks_off_is_no_failure_of_ours(sidecar):
    head = b"POST /admin/reload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 50\r\n\r\n"
    with socket.create_connection(("127.0.0.1", sidecar.admin_port), PATIENCE) as connection:
        connection.sendall(head + b'{"reason":')
    assert sidecar.get("/admin/status").status_code == 200
    assert [line for line in sidecar.logs() if line["event"] in ("admin call failed", "reloaded")] == []


def test_refused_changes_are_told_too(sidecar):
    ask(sidecar, "PUT", "/admin/upstreams/nothing/breaker", json={"mode": "auto", "reason": "typing error"})
    line = sidecar.wait_log(lambda line: line["event"] == "admin change refused", "the refusal is told")
    assert (line["what"], line["status"]) == ("PUT /admin/upstreams/nothing/breaker", 404)

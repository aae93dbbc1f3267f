"""The page of a real sidecar in headless Chromium: what it shows, and what can be done without a mouse."""

from __future__ import annotations

import pytest

from tests.support.ports import free_port
from tests.support.sidecar import config_for
from tests.support.upstream import Do, Reply
from tests.support.waiting import eventually

TOKEN = "opensesame"


def text_of(selector):
    return f"document.querySelector({selector!r})?.textContent"


def shows(browser, selector, text):
    browser.wait(f"({text_of(selector)} ?? '').includes({text!r})", f"{selector} shows {text!r}")


def press_until(browser, key, there, *, limit=60):
    """Press a key until the focus is where ``there`` (an expression about ``it``) says."""
    for _ in range(limit):
        browser.press(key)
        if browser.run(f"(it => {there})(document.activeElement)"):
            return
    raise AssertionError(f"{key} never leads to {there}")


def button(browser, label):
    """Go to a button by its name, and press it."""
    press_until(browser, "Tab", f"(it.getAttribute('aria-label') ?? it.textContent).startsWith({label!r})")
    browser.press("Enter")


def lose_key(sidecar, upstream, key="k"):
    upstream.replies["/lost"] = Reply((Do.RESET,))
    with sidecar.client() as client:
        assert client.request("POST", "/lost", f"Idempotency-Key: {key}", body=b"x").status == 504
    return sidecar.get("/admin/idempotency?state=UNKNOWN").json()["items"]


def test_it_shows_traffic_breakers_and_latency_as_they_happen(browser, sidecar):
    browser.open(sidecar.admin + "/")
    shows(browser, "#ready", "ready")
    shows(browser, "#hosts", "closed")
    with sidecar.client() as client:
        for number in range(30):
            client.request("GET", f"/{number}")
    # The rate itself is there for a second only, which a busy machine may miss.
    browser.wait("/highest [1-9]/.test(document.querySelector('#rate-caption').textContent)", "the rate")
    shows(browser, "#p99", "ms")
    assert browser.run("document.querySelector('#rate-line').getAttribute('points').length > 0")
    assert browser.run("document.title") == "sidecar · Sidecar"
    assert browser.complaints == []


def test_a_breaker_is_overridden_without_a_mouse(browser, sidecar):
    browser.open(sidecar.admin + "/")
    shows(browser, "#hosts", "Override…")
    button(browser, "Override app")
    assert browser.run("document.querySelector('#ask').open")
    press_until(browser, "Tab", "it.tagName === 'SELECT'")
    browser.press("ArrowDown")
    press_until(browser, "Tab", "it.id === 'ask-reason'")
    browser.type("maintenance")
    browser.press("Enter")
    shows(browser, "#said", "done")
    shows(browser, "#hosts", "forced open")
    shows(browser, "#hosts", "maintenance")
    line = sidecar.wait_log(lambda line: line["event"] == "admin change", "the change is told")
    assert (line["mode"], line["why"]) == ("forced_open", "maintenance")
    # The figures go on, and the focus stays where it was.
    assert browser.run("document.activeElement.textContent") == "Override…"
    seen = browser.run(text_of("#seen"))
    browser.wait(f"{text_of('#seen')} !== {seen!r}", "new figures")
    assert browser.run("document.activeElement.textContent") == "Override…"
    assert browser.complaints == []


def test_a_dialog_that_is_left_changes_nothing(browser, sidecar):
    browser.open(sidecar.admin + "/")
    shows(browser, "#hosts", "Override…")
    button(browser, "Override app")
    browser.press("Escape")
    browser.wait("!document.querySelector('#ask').open", "the dialog is closed")
    assert browser.run("document.activeElement.textContent") == "Override…"
    assert [line for line in sidecar.logs() if line["event"] == "admin change"] == []


def test_unknown_outcomes_are_released_and_resolved(browser, sidecar, upstream):
    lose_key(sidecar, upstream, "first")
    browser.open(sidecar.admin + "/")
    shows(browser, "#unknown", "1")
    lose_key(sidecar, upstream, "second")
    shows(browser, "#unknown", "2")
    browser.wait("document.querySelectorAll('#records tr').length === 2", "both records")
    button(browser, "Release")
    browser.type("it never happened")
    browser.press("Enter")
    browser.wait("document.querySelectorAll('#records tr').length === 1", "one record is left")
    button(browser, "Resolve")
    browser.run("document.querySelector('#ask textarea').focus()")
    browser.type('{"id": 1}')
    press_until(browser, "Tab", "it.id === 'ask-reason'")
    browser.type("it did")
    browser.press("Enter")
    shows(browser, "#no-records", "None")
    browser.wait("!document.querySelector('#no-records').hidden", "nothing is left")
    for action, why in (("release", "it never happened"), ("resolve", "it did")):
        sidecar.wait_log(lambda line, why=why: line.get("why") == why, f"the {action} is told")
    assert browser.complaints == []


@pytest.fixture
def failing(start_sidecar):
    """A sidecar whose upstream is not there yet, with two requests kept as dead letters."""
    port = free_port()
    config = config_for(f"http://127.0.0.1:{port}")
    config["upstreams"]["app"] |= {"retry": {"max_attempts": 1}}
    config["routes"][0]["dead_letter"] = True
    sidecar = start_sidecar(config)
    sidecar.upstream_port = port
    for number in range(2):
        with sidecar.client() as client:
            client.request("POST", f"/orders/{number}", body=b"{}")
    eventually(lambda: sidecar.get("/admin/dlq").json()["items"], "there are dead letters")
    return sidecar


def test_dead_letters_are_retried_and_removed(browser, failing):
    browser.open(failing.admin + "/")
    browser.wait("document.querySelectorAll('#letters tr').length === 2", "both dead letters")
    shows(browser, "#queue", "HTTP_REQUEST (2)")
    newest, _ = failing.get("/admin/dlq/HTTP_REQUEST").json()["items"]
    button(browser, f"Retry {newest['id']}")
    browser.type("try again")
    browser.press("Enter")
    shows(browser, "#said", "Retry:")
    assert browser.run("document.querySelector('#said').className") == "said bad"
    button(browser, f"Remove {newest['id']}")
    browser.type("made by hand")
    browser.press("Enter")
    browser.wait("document.querySelectorAll('#letters tr').length === 1", "one is left")
    shows(browser, "#queue", "HTTP_REQUEST (1)")
    for status, why in ((502, "try again"), (200, "made by hand")):
        line = failing.wait_log(lambda line, why=why: line.get("why") == why, f"{why} is told")
        assert line["status"] == status


def test_a_token_opens_the_page(browser, start_sidecar, upstream):
    port = free_port()
    config = config_for(upstream.url, admin={"bind": f"127.0.0.1:{port}", "token": TOKEN})
    sidecar = start_sidecar(config, expect_ready=False)
    sidecar.admin_port = port
    sidecar.wait_ready()
    browser.open(sidecar.admin + "/")
    browser.wait("!document.querySelector('#door').hidden", "it asks for the token")
    assert browser.run("document.activeElement.id") == "token"
    browser.type("wrong")
    browser.press("Enter")
    shows(browser, "#said", "not the token")
    browser.wait("document.activeElement.id === 'token'", "it asks again")
    browser.type(TOKEN)
    browser.press("Enter")
    shows(browser, "#ready", "ready")
    shows(browser, "#hosts", "closed")
    assert browser.run("document.querySelector('#door').hidden")
    browser.open(sidecar.admin + "/")
    shows(browser, "#ready", "ready")  # the tab remembers it


def test_it_says_when_the_sidecar_is_gone(browser, sidecar):
    browser.open(sidecar.admin + "/")
    shows(browser, "#ready", "ready")
    assert sidecar.stop() == 0
    shows(browser, "#ready", "not connected")


def test_light_and_dark(browser, sidecar):
    browser.open(sidecar.admin + "/")
    backgrounds = []
    for scheme in ("light", "dark"):
        browser.prefer(scheme)
        backgrounds.append(browser.run("getComputedStyle(document.body).backgroundColor"))
    assert backgrounds == ["rgb(246, 247, 249)", "rgb(20, 22, 26)"]
    assert browser.picture().startswith(b"\x89PNG")


def test_a_script_from_elsewhere_does_not_run(browser, sidecar):
    browser.open(sidecar.admin + "/")
    shows(browser, "#ready", "ready")
    browser.run("document.body.append(Object.assign(document.createElement('img'), {src: 'x', id: 'evil'}))")
    assert browser.run(
        "(() => { try { document.body.innerHTML = '<b>'; return false } catch { return true } })()"
    )
    browser.wait("true", "a turn")
    assert any("Content Security Policy" in complaint for complaint in browser.complaints)

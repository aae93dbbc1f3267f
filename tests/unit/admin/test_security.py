"""Who may call, and from where: each rule alone, on requests as browsers and programs send them."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from sidecar.admin.security import TOKEN_NAME, check_host, check_media_type, check_origin, check_token
from sidecar.errors import BadRequest, Forbidden, MediaTypeNotSupported, Unauthorized
from sidecar.settings.addresses import Address

LOOPBACK = Address(host="127.0.0.1", port=9901)


def request(method="GET", path="/admin/status", *fields, **headers):
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return make_mocked_request(method, path, headers=CIMultiDict([*fields, *named]))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:9901",
        "127.0.0.1",
        "[::1]:9901",
        "localhost:9901",
        "LOCALHOST",
        "sidecar.localhost",
        "10.0.0.7:1",
    ],
)
def test_names_that_nobody_can_rebind_are_accepted(host):
    check_host(request(Host=host), LOOPBACK)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9901", "localhost.evil.example", "127.0.0.1.nip.io", "", "[evil]"]
)
def test_other_names_are_refused_on_loopback(host):
    with pytest.raises(Forbidden):
        check_host(request(Host=host), LOOPBACK)


def test_the_name_that_the_port_is_bound_to_is_accepted():
    bind = Address(host="127.0.0.2", port=9901)
    check_host(request(Host="127.0.0.2:9901"), bind)


@pytest.mark.parametrize("bind", [Address(host="0.0.0.0", port=9901), Address(unix="/run/sidecar.sock")])
def test_any_name_is_accepted_where_no_browser_gets_in_by_itself(bind):
    check_host(request(Host="sidecar.svc.cluster.local"), bind)


def test_one_host_is_needed():
    with pytest.raises(BadRequest):
        check_host(request(), LOOPBACK)
    with pytest.raises(BadRequest):
        check_host(request("GET", "/", ("Host", "localhost"), ("Host", "evil.example")), LOOPBACK)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"Origin": "http://127.0.0.1:9901"},
        {"Origin": "http://127.0.0.1:9901", "Sec_Fetch_Site": "same-origin"},
        {"Sec_Fetch_Site": "none"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Dest": "document"},
    ],
)
def test_programs_the_page_itself_and_links_to_it_are_let_in(fields):
    check_origin(request(Host="127.0.0.1:9901", **fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Origin": "http://localhost:9901"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Dest": "iframe"},
    ],
)
def test_pages_of_other_origins_are_kept_out(fields):
    with pytest.raises(Forbidden):
        check_origin(request(Host="127.0.0.1:9901", **fields))


def test_a_form_of_another_site_that_fills_a_tab_changes_nothing():
    with pytest.raises(Forbidden):
        check_origin(
            request("POST", Host="127.0.0.1", Sec_Fetch_Site="cross-site", Sec_Fetch_Dest="document")
        )


@pytest.mark.parametrize("given", ["Bearer s3cret", "bearer s3cret", "Bearer  s3cret "])
def test_the_token_opens(given):
    assert check_token(request(Authorization=given), "s3cret") == TOKEN_NAME


@pytest.mark.parametrize(
    "given", ["", "s3cret", "Basic s3cret", "Bearer", "Bearer s3cre", "Bearer s3cret2", "Bearer ü"]
)
def test_anything_else_does_not(given):
    with pytest.raises(Unauthorized) as caught:
        check_token(request(Authorization=given), "s3cret")
    assert "s3cret" not in caught.value.message


def test_two_tokens_are_none():
    with pytest.raises(Unauthorized):
        check_token(request("GET", "/", ("Authorization", "Bearer a"), ("Authorization", "Bearer a")), "a")


def test_without_a_token_the_peer_is_who_asks():
    transport_request = request()
    transport_request.transport.get_extra_info.side_effect = lambda name: ("::1", 5, 0, 0)
    assert check_token(transport_request, None) == "::1"
    transport_request.transport.get_extra_info.side_effect = lambda name: ""
    assert check_token(transport_request, None) == "unix"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_browser_changes_things_with_json_alone(kind):
    with pytest.raises(MediaTypeNotSupported):
        check_media_type(request("POST", Origin="http://127.0.0.1", Content_Type=kind))
    with pytest.raises(MediaTypeNotSupported):
        check_media_type(request("POST", Sec_Fetch_Site="same-origin", Content_Type=kind))
    check_media_type(request("POST", Content_Type=kind))  # curl
    check_media_type(
        request("POST", Origin="http://127.0.0.1", Content_Type="application/json; charset=utf-8")
    )

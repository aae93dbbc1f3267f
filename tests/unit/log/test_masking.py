"""What never reaches a log."""

from __future__ import annotations

import pytest

from sidecar.log import mask_header, mask_query, mask_url
from sidecar.log.masking import is_secret


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "COOKIE",
        "Set-Cookie",
        "Proxy-Authorization",
        "X-API-Key",
        "Idempotency-Key",
        "X-My-Token",
    ],
)
def test_credentials_in_headers_are_masked(name):
    assert mask_header(name, "secret") == "***"


@pytest.mark.parametrize("name", ["Accept", "X-Correlation-ID", "Content-Type", "X-Tokenizer"])
def test_other_headers_are_shown(name):
    assert mask_header(name, "value") == "value"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://user:hunter2@cache:6379/0", "redis://user:***@cache:6379/0"),
        ("redis://:hunter2@cache", "redis://:***@cache"),
        ("postgresql://app:p@ss:word@db/x", "postgresql://app:***@db/x"),
        ("https://user@host/", "https://user@host/"),
        ("http://host/path?token=abc&page=2", "http://host/path?token=***&page=2"),
        ("http://h/?a=1;Access_Token=x#f", "http://h/?a=1;Access_Token=***#f"),
        ("cannot reach rediss://:x@h: refused", "cannot reach rediss://:***@h: refused"),
        ("http://host/a@b:c", "http://host/a@b:c"),
        ("no url: user:pass@host", "no url: user:pass@host"),
    ],
)
def test_urls_keep_everything_but_their_secrets(text, masked):
    assert mask_url(text) == masked


def test_queries_keep_everything_but_their_secrets():
    assert mask_query("token=abc&page=2&sig=x") == "token=***&page=2&sig=***"


@pytest.mark.parametrize(
    "name", ["password", "DB_PASSWORD", "admin.token", "client_secret", "api_key", "x-api-key"]
)
def test_names_that_mean_secrets(name):
    assert is_secret(name)


@pytest.mark.parametrize("name", ["tokens_used", "secretary", "passwordless", "key", "correlation_id"])
def test_names_that_do_not(name):
    assert not is_secret(name)

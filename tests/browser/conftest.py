from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.browser import CHROMIUM, Browser

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def browser(tmp_path) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine; the page is checked as a file all the same")
    with Browser(tmp_path / "profile") as tab:
        yield tab

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.manual_loop import ManualLoop

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def loop() -> Iterator[ManualLoop]:
    """The running loop of a test that moves time by hand."""
    with ManualLoop() as manual:
        yield manual

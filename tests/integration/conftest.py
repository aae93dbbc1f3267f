"""A PostgreSQL for the tests of real processes; each test or file makes databases of its own in it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.support.pgcluster import Cluster, installations

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    with closing(Cluster(installations()["embedded"])) as cluster:
        yield cluster

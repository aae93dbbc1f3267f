"""The spool's file against a model that is a list: whatever is done to it, in whatever order, they agree."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sidecar.spool import QueueStats, SpoolFull
from sidecar.spool.file import SpoolFile

QUEUES = st.sampled_from(["rows", "intents"])
PAYLOADS = st.lists(st.binary(max_size=40), min_size=1, max_size=4)
BOUND = 150


class SpoolMachine(RuleBasedStateMachine):
    """Transactions are ended at random, by a commit, a rollback, or the loss of the process."""

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="sidecar-spool-")
        self.now = 0.0
        self.last_id = 0
        self.items: list[tuple[int, str, float, bytes]] = []
        self.committed = list(self.items)
        self._open()

    def _open(self) -> None:
        self.file = SpoolFile(Path(self.folder.name) / "spool.db", max_queue_bytes=BOUND)
        self.file.begin()

    def _used(self, queue: str) -> int:
        return sum(len(payload) for _, name, _, payload in self.items if name == queue)

    @rule(queue=QUEUES, payloads=PAYLOADS)
    def append(self, queue: str, payloads: list[bytes]) -> None:
        self.now += 1
        if self._used(queue) + sum(map(len, payloads)) > BOUND:
            with pytest.raises(SpoolFull):
                self.file.append(queue, payloads, self.now, None)
            return
        last = self.file.append(queue, payloads, self.now, None)
        ids = range(last - len(payloads) + 1, last + 1)
        assert ids[0] > self.last_id
        self.last_id = last
        self.items += [(each, queue, self.now, payload) for each, payload in zip(ids, payloads, strict=True)]

    @rule(queue=QUEUES, share=st.floats(0, 1))
    def discard(self, queue: str, share: float) -> None:
        up_to = round(self.last_id * share)
        gone = [item for item in self.items if item[1] == queue and item[0] <= up_to]
        assert self.file.discard(queue, up_to) == len(gone)
        self.items = [item for item in self.items if item not in gone]

    @rule(queue=QUEUES, item_id=st.integers(1, 60), payload=st.binary(max_size=40))
    def move(self, queue: str, item_id: int, payload: bytes) -> None:
        self.now += 1
        known = [item for item in self.items if item[0] == item_id]
        moved = self.file.move(item_id, queue, payload, self.now)
        assert (moved is not None) == bool(known)
        if moved is not None:
            assert moved > self.last_id
            self.last_id = moved
            self.items = [item for item in self.items if item not in known]
            self.items.append((moved, queue, self.now, payload))

    @rule(item_id=st.integers(1, 60))
    def remove(self, item_id: int) -> None:
        known = [item for item in self.items if item[0] == item_id]
        assert self.file.remove(item_id) == bool(known)
        self.items = [item for item in self.items if item not in known]

    @rule()
    def commit(self) -> None:
        self.file.commit()
        self.committed = list(self.items)
        self.file.begin()

    @rule(dies=st.booleans())
    def lose(self, dies: bool) -> None:
        """Lose what was not committed; the ids of that may be given again."""
        if dies:
            self.file.close()
            self._open()
        else:
            self.file.rollback()
            self.file.begin()
        self.items = list(self.committed)
        self.last_id = max([item[0] for item in self.items], default=0)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "file"):
            return
        for queue in ("rows", "intents"):
            expected = [item for item in self.items if item[1] == queue]
            found = [
                (item.id, queue, item.created_at, item.payload) for item in self.file.peek(queue, 1000, 0)
            ]
            assert found == expected

    def teardown(self) -> None:
        if not hasattr(self, "file"):
            return
        stats = self.file.commit()
        for queue in ("rows", "intents"):
            expected = [item for item in self.items if item[1] == queue]
            oldest = expected[0][2] if expected else None
            size = sum(len(payload) for *_, payload in expected)
            assert stats.get(queue, QueueStats()) == QueueStats(len(expected), size, oldest)
        self.file.close()
        self.folder.cleanup()


TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

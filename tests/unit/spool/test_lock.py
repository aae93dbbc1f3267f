"""Locks between processes; other processes are played by other descriptors, which ``flock`` treats alike."""

from __future__ import annotations

from sidecar.spool.lock import Owner, ProcessLock


def test_one_holder_at_a_time(tmp_path):
    first, second = ProcessLock(tmp_path / "lock"), ProcessLock(tmp_path / "lock")
    assert first.acquire()
    assert first.acquire()
    assert first.held
    assert not second.acquire()
    assert not second.held
    first.release()
    first.release()
    assert second.acquire()
    second.release()


def test_an_owner_lives_until_it_leaves(tmp_path):
    mine = Owner(tmp_path, "mine").enter()
    theirs = Owner(tmp_path, "theirs").enter()
    assert mine.is_alive("mine")
    assert mine.is_alive("theirs")
    theirs.leave()
    assert not mine.is_alive("theirs")
    assert not mine.is_alive("never-was")
    mine.leave()
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_starts_removes_the_marks_of_the_dead(tmp_path):
    dead, alive = Owner(tmp_path, "dead").enter(), Owner(tmp_path, "alive").enter()
    dead._lock.release()  # what the kernel does after kill -9
    mine = Owner(tmp_path, "mine").enter()
    assert {path.name for path in tmp_path.iterdir()} == {"owner-alive.lock", "owner-mine.lock"}
    alive.leave()
    mine.leave()


def test_a_mark_that_another_process_swept_away_is_made_again(tmp_path, monkeypatch):
    mine, take = Owner(tmp_path, "mine"), ProcessLock.acquire
    swept = []

    def acquire_and_lose(lock):
        taken = take(lock)
        if not swept:
            swept.append(lock.path)
            lock.path.unlink()
        return taken

    monkeypatch.setattr(ProcessLock, "acquire", acquire_and_lose)
    mine.enter()
    assert mine.is_alive("mine")
    mine.leave()


def test_a_dead_owner_leaves_a_mark_that_the_first_look_removes(tmp_path):
    mine = Owner(tmp_path, "mine").enter()
    dead = Owner(tmp_path, "dead").enter()
    dead._lock.release()  # what the kernel does after kill -9
    assert (tmp_path / "owner-dead.lock").exists()
    assert not mine.is_alive("dead")
    assert not (tmp_path / "owner-dead.lock").exists()
    mine.leave()

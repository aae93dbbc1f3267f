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


def test_a_dead_owner_leaves_a_mark_that_the_first_look_removes(tmp_path):
    mine = Owner(tmp_path, "mine").enter()
    dead = Owner(tmp_path, "dead").enter()
    dead._lock.release()  # what the kernel does after kill -9
    assert (tmp_path / "owner-dead.lock").exists()
    assert not mine.is_alive("dead")
    assert not (tmp_path / "owner-dead.lock").exists()
    mine.leave()

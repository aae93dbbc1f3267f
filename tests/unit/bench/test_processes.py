"""CPU time and memory as the kernel tells them, of this process."""

from __future__ import annotations

import os
import time

from bench.processes import cpu_clock_id, cpu_ns, resident_bytes, tree


def test_cpu_clock_of_a_process_is_the_kernels():
    before = time.process_time_ns()
    by_id = time.clock_gettime_ns(cpu_clock_id(os.getpid()))
    assert before <= by_id <= time.process_time_ns()


def test_cpu_time_grows_with_work():
    before, started = cpu_ns(os.getpid()), time.process_time_ns()  # one with children
    while time.process_time_ns() < started + 5_000_000:
        pass
    assert cpu_ns(os.getpid()) - before >= 5_000_000


def test_tree_begins_with_its_root():
    assert tree(os.getpid())[0] == os.getpid()


def test_resident_memory_is_counted_in_bytes():
    assert 5 << 20 < resident_bytes(os.getpid()) < 4 << 30

"""Several processes write to one pipe, and no line is torn."""

from __future__ import annotations

import json
import os
import select

from sidecar.log.outlet import Outlet, end_of_portion

BUF = select.PIPE_BUF


def test_a_portion_is_as_many_lines_as_a_pipe_takes_whole():
    line = b"x" * 999 + b"\n"
    data = line * 10
    assert end_of_portion(data, 0) == BUF // 1000 * 1000
    assert end_of_portion(data, 8_000) == 10_000
    assert end_of_portion(b"no end", 0) == 6


def test_a_line_that_is_too_long_goes_alone():
    data = b"x" * 2 * BUF + b"\n" + b"short\n"
    assert end_of_portion(data, 0) == 2 * BUF + 1
    assert end_of_portion(data, 2 * BUF + 1) == len(data)


def test_what_a_full_pipe_takes_ends_with_a_line():
    reader, writer = os.pipe()
    outlet = Outlet(writer)
    data = b"".join(b"%0999d\n" % number for number in range(500))
    taken = outlet.write(data)
    assert 0 < taken < len(data)
    assert taken % 1000 == 0
    assert outlet.write(data[taken:]) == 0
    outlet.close()
    os.close(writer)
    os.close(reader)


def test_lines_of_several_processes_do_not_mix():
    reader, writer = os.pipe()
    children = []
    for number in range(3):
        pid = os.fork()
        if not pid:
            outlet = Outlet(writer)
            rest = b"".join(
                b'{"from": %d, "pad": "%b"}\n' % (number, b"x" * (i * 37 % 700)) for i in range(300)
            )
            while rest:
                rest = rest[outlet.write(rest) :]
            os._exit(0)
        children.append(pid)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        lines = [json.loads(line) for line in pipe]
    assert len(lines) == 900
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0, 0]

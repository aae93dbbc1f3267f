from __future__ import annotations

import asyncio
import os
import socket

import pytest

from sidecar.workers.link import Link, LinkLost
from sidecar.workers.messages import Done, SetLogLevel


@pytest.fixture
async def ends():
    (a, b), (a_side, b_side) = socket.socketpair(), socket.socketpair()
    one, other = await Link.over(a, a_side), await Link.over(b, b_side)
    yield one, other
    one.close()
    other.close()


async def test_messages_arrive_whole_and_in_order(ends):
    one, other = ends
    large = Done("x" * 1_000_000)
    one.send(SetLogLevel("debug"))
    one.send(large)
    assert await other.receive() == SetLogLevel("debug")
    assert await other.receive() == large
    other.send(Done())
    assert await one.receive() == Done()


async def test_descriptors_arrive_with_their_message(ends):
    one, other = ends
    pipes = [os.pipe() for _ in range(3)]
    one.send("first", [writer for _, writer in pipes[:2]])
    one.send("none")
    one.send("last", [pipes[2][1]])
    received = []
    for message, count in (("first", 2), ("none", 0), ("last", 1)):
        assert await other.receive() == message
        received += other.take_descriptors(count)
    for number, writer in enumerate(received):
        os.write(writer, b"%d" % number)
        os.close(writer)
    assert [os.read(reader, 10) for reader, _ in pipes] == [b"0", b"1", b"2"]
    for pipe in pipes:
        for fd in pipe:
            os.close(fd)


async def test_the_end_of_the_other_process_is_seen(ends):
    one, other = ends
    other.send("the last word")
    await other.drain()
    other.close()
    assert await one.receive() == "the last word"
    with pytest.raises(LinkLost):
        await one.receive()
    with pytest.raises(LinkLost):
        one.send("with a descriptor", [0])


async def test_what_was_sent_is_on_its_way_when_nothing_is_left_of_it_here(ends):
    """However little that is: a process that ends with it takes it along."""
    one, other = ends
    sent = 0
    while not one._writer.transport.get_write_buffer_size():
        one.send("x" * 1000)
        sent += 1
    draining = asyncio.create_task(one.drain())
    await asyncio.wait([draining], timeout=0)
    assert not draining.done()
    for _ in range(sent):
        assert await other.receive() == "x" * 1000
    await draining
    assert not one._writer.transport.get_write_buffer_size()


async def test_a_message_that_breaks_off_is_none():
    (a, b), (a_side, b_side) = socket.socketpair(), socket.socketpair()
    one = await Link.over(a, a_side)
    b.sendall((100).to_bytes(4, "big") + b"half")
    b.close()
    with pytest.raises(LinkLost):
        await one.receive()
    one.close()
    b_side.close()

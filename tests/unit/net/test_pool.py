import asyncio
import socket
import ssl

import pytest
import uvloop

from sidecar.errors import UpstreamTimeout, UpstreamUnreachable
from sidecar.net.upstream import UpstreamConnection
from tests.unit.net.hosts import Host, pool_of


@pytest.fixture
def host(loop):
    return Host(loop)


@pytest.fixture
def pool(loop, host):
    return pool_of(loop, host)


def opening(loop, pool):
    """A request that needs a connection, as far as it gets."""
    task = loop.create_task(pool.open())
    loop.settle()
    return task


class TestKeeping:
    def test_a_connection_is_used_again_the_last_one_first(self, loop, pool):
        first, second = loop.run(pool.open()), loop.run(pool.open())
        assert pool.take() is None
        pool.put(first)
        pool.put(second)
        assert (pool.size, pool.idle) == (2, 2)
        assert [pool.take(), pool.take(), pool.take()] == [second, first, None]

    def test_not_for_longer_than_it_may(self, loop, host, pool):
        pool.put(loop.run(pool.open()))
        loop.advance(3.9)
        assert host.connections[0].is_open
        loop.advance(0.2)
        assert not host.connections[0].is_open
        assert (pool.size, pool.idle, pool.take()) == (0, 0, None)

    def test_a_connection_in_use_does_not_grow_old(self, loop, host, pool):
        connection = loop.run(pool.open())
        pool.put(connection)
        pool.take()
        connection.deadline = float("inf")  # as `begin` does
        loop.advance(60)
        assert host.connections[0].is_open

    @pytest.mark.parametrize("end", ["vanish", "finish", "send"])
    def test_what_ends_or_speaks_while_idle_is_thrown_away(self, loop, host, pool, end):
        pool.put(loop.run(pool.open()))
        {"vanish": host.connections[0].vanish, "finish": host.connections[0].finish}.get(
            end, lambda: host.connections[0].send(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        )()
        assert (pool.size, pool.idle, pool.take()) == (0, 0, None)
        assert not host.connections[0].is_open

    def test_what_is_closing_is_passed_over(self, loop, host, pool):
        connection = loop.run(pool.open())
        pool.put(connection)
        host.connections[0].ended = "lost"  # the loop has not told of it yet
        assert pool.take() is None

    def test_what_the_kernel_knows_to_have_ended_is_passed_over_where_it_matters(self, loop, host, pool):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            pool.put(loop.run(pool.open()))
            host.connections[0].socket.readable_as = ours.fileno()
            connection = pool.take(surely=True)
            assert connection is not None
            pool.put(connection)
            theirs.close()
            assert pool.take(surely=True) is None
            assert not host.connections[0].is_open

    def test_nothing_is_kept_where_the_settings_say_so(self, loop, host):
        pool = pool_of(loop, host, idle=0.0)
        pool.put(loop.run(pool.open()))
        loop.settle()
        assert (pool.size, pool.idle) == (0, 0)

    def test_nothing_is_kept_once_it_is_closed(self, loop, host, pool):
        busy, idle = loop.run(pool.open()), loop.run(pool.open())
        pool.put(idle)
        pool.close()
        loop.settle()
        assert [it.is_open for it in host.connections] == [True, False]
        pool.put(busy)
        loop.settle()
        assert pool.size == 0


class TestBound:
    @pytest.fixture
    def full(self, loop, pool):
        return [loop.run(pool.open()) for _ in range(2)]

    def test_whoever_comes_when_all_are_in_use_gets_the_next_that_is_free(self, loop, host, pool, full):
        waiting = opening(loop, pool)
        pool.put(full[0])
        loop.settle()
        assert waiting.result() is full[0]
        assert host.dialled == 2

    def test_or_opens_one_when_another_is_gone(self, loop, host, pool, full):
        waiting = opening(loop, pool)
        host.connections[0].vanish()
        loop.settle()
        assert waiting.result() not in full
        assert (pool.size, host.dialled) == (2, 3)

    def test_in_the_order_of_their_coming(self, loop, pool, full):
        first, second = opening(loop, pool), opening(loop, pool)
        pool.put(full[1])
        loop.settle()
        assert first.result() is full[1]
        assert not second.done()
        pool.put(full[0])
        loop.settle()
        assert second.result() is full[0]

    def test_but_not_forever(self, loop, pool, full):
        waiting = opening(loop, pool)
        loop.advance(1.1)
        with pytest.raises(UpstreamTimeout) as caught:
            waiting.result()
        assert (caught.value.reason, caught.value.sent) == ("connect", False)
        pool.put(full[0])
        assert pool.take() is full[0]

    def test_a_connection_that_comes_back_before_the_wait_begins_is_not_overlooked(
        self, loop, host, pool, full
    ):
        waiting = loop.create_task(pool.open())  # has not run yet
        pool.put(full[0])
        loop.settle()
        assert waiting.result() is full[0]

    def test_one_that_has_ended_meanwhile_is_not_given_out(self, loop, host, pool, full):
        waiting = opening(loop, pool)
        pool.put(full[0])
        host.connections[0].vanish()
        loop.settle()
        assert waiting.result() not in full

    def test_somebody_else_may_be_quicker(self, loop, pool, full):
        waiting = opening(loop, pool)
        pool.put(full[0])
        assert pool.take() is full[0]
        loop.settle()
        assert not waiting.done()
        pool.put(full[0])
        loop.settle()
        assert waiting.result() is full[0]

    @pytest.mark.parametrize("comes", ["after", "at once", "before"])
    def test_whoever_goes_away_while_waiting_takes_nothing_along(self, loop, pool, full, comes):
        """A connection may come back before it goes (it is given the place, and never sees it) or later."""
        gone, patient = opening(loop, pool), opening(loop, pool)
        if comes == "before":
            pool.put(full[0])
        gone.cancel()
        if comes == "at once":
            pool.put(full[0])
        loop.settle()
        if comes == "after":
            assert not patient.done()
            pool.put(full[0])
            loop.settle()
        assert patient.result() is full[0]
        assert pool.size == 2
        assert "waiting=0" in repr(pool)


class TestConnecting:
    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (ConnectionRefusedError(), "connect_refused"),
            (socket.gaierror(), "dns"),
            (ssl.SSLCertVerificationError(), "tls"),
            (OSError("no route"), "connect"),
        ],
    )
    def test_in_vain(self, loop, host, pool, error, reason):
        host.coming.append(error)
        with pytest.raises(UpstreamUnreachable) as caught:
            loop.run(pool.open())
        assert (caught.value.reason, caught.value.sent) == (reason, False)
        assert pool.size == 0

    def test_a_name_that_is_known_again(self, loop, host, pool):
        host.coming += [socket.gaierror()] * 5
        for _ in range(5):
            with pytest.raises(UpstreamUnreachable):
                loop.run(pool.open())
        assert loop.run(pool.open()) is not None
        assert (pool.size, host.dialled) == (1, 6)

    def test_a_fault_of_our_own_is_not_hidden(self, loop, host, pool):
        host.coming.append(ValueError("bug"))
        with pytest.raises(ValueError, match="bug"):
            loop.run(pool.open())
        assert pool.size == 0

    def test_a_host_that_does_not_answer(self, loop, host, pool):
        host.coming.append(loop.create_future())
        task = opening(loop, pool)
        assert pool.size == 1
        loop.advance(1.1)
        with pytest.raises(UpstreamTimeout):
            task.result()
        assert pool.size == 0

    def test_whoever_waits_for_the_place_of_a_failed_one_gets_it(self, loop, host):
        pool = pool_of(loop, host, max_connections=1)
        silent = loop.create_future()
        host.coming.append(silent)
        first, second = opening(loop, pool), opening(loop, pool)
        silent.set_exception(ConnectionRefusedError())
        loop.settle()
        assert isinstance(first.exception(), UpstreamUnreachable)
        assert second.result() is not None
        assert pool.size == 1

    def test_whoever_goes_away_while_connecting_leaves_nothing_behind(self, loop, host, pool):
        host.coming.append(loop.create_future())
        task = opening(loop, pool)
        task.cancel()
        loop.settle()
        assert task.cancelled()
        assert (pool.size, host.connections) == (0, [])

    def test_or_in_the_moment_of_the_connection(self, loop, host, pool):
        """It was made, and its maker is cancelled before it hears of that."""

        async def dial(protocol):
            await host.dial(protocol)
            await loop.create_future()

        pool.dial = dial
        task = opening(loop, pool)
        assert host.connections[0].is_open
        task.cancel()
        loop.settle()
        assert not host.connections[0].is_open
        assert pool.size == 0

    def test_nor_if_it_is_never_told_of_its_end(self, loop, host, pool):
        """uvloop forgets the protocol of a connection that it closes itself."""

        async def dial(protocol):
            await host.dial(protocol)
            try:
                await loop.create_future()
            finally:
                host.connections[0].forget()

        pool.dial = dial
        task = opening(loop, pool)
        waiting = [opening(loop, pool) for _ in range(2)]
        task.cancel()
        loop.settle()
        assert pool.size == 2
        for other in waiting:
            other.cancel()
        loop.settle()
        assert pool.size == 0

    def test_as_it_really_is(self, monkeypatch):
        """Whoever is cancelled in the turn of the loop in which the connection is made."""
        uvloop.run(cancel_as_it_connects(monkeypatch))


async def cancel_as_it_connects(monkeypatch):
    loop = asyncio.get_running_loop()
    made = UpstreamConnection.connection_made

    def make_and_cancel(connection, transport):
        made(connection, transport)
        opening.cancel()

    monkeypatch.setattr(UpstreamConnection, "connection_made", make_and_cancel)
    async with await loop.create_server(asyncio.Protocol, "127.0.0.1", 0) as server:
        pool = pool_of(loop, port=server.sockets[0].getsockname()[1])
        opening = loop.create_task(pool.open())
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert pool.size == 0

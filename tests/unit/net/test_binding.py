"""Listening sockets, real ones on the loopback."""

from __future__ import annotations

import socket
from collections import Counter
from contextlib import closing

import pytest

from sidecar.net.binding import Place, bind
from sidecar.settings.addresses import Address

ANY_PORT = Address("127.0.0.1", 0)


def port_of(name):
    return int(name.rpartition(":")[2])


async def test_an_address_is_taken_once():
    with closing(await bind(ANY_PORT)) as binding:
        port = binding.sockets[0].getsockname()[1]
        for take in (bind, Place.reserve):
            with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
                await take(Address("127.0.0.1", port))


async def test_a_name_may_stand_for_several_addresses():
    with closing(await bind(Address("localhost", 0))) as binding:
        assert binding.sockets
        for sock in binding.sockets:
            socket.create_connection(sock.getsockname()[:2]).close()


async def test_a_unix_socket_leaves_no_file(tmp_path):
    address = Address(unix=str(tmp_path / "s"))
    for take in (bind, Place.reserve):
        (await take(address)).close()
        assert not (tmp_path / "s").exists()


async def test_a_place_holds_its_address_without_listening():
    with closing(await Place.reserve(ANY_PORT)) as place:
        (name,) = place.names
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port_of(name)))
        (sock,) = place.sockets()
        socket.create_connection(("127.0.0.1", port_of(name))).close()
        with pytest.raises(OSError, match="cannot listen on"):  # also for one that would share it with others
            await Place.reserve(Address("127.0.0.1", port_of(name)))
        sock.close()


async def test_connections_spread_over_the_sockets_and_leave_out_those_that_are_gone():
    with closing(await Place.reserve(ANY_PORT)) as place:
        port = port_of(place.names[0])
        first, second = place.sockets() + place.sockets()

        def spread(count):
            clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
            taken = Counter()
            for sock in (first, second):
                while sock.fileno() >= 0:
                    try:
                        sock.accept()[0].close()
                    except BlockingIOError:
                        break
                    taken[sock] += 1
            for client in clients:
                client.close()
            return taken

        assert len(spread(64)) == 2
        first.close()
        assert spread(64) == {second: 64}
        second.close()


async def test_a_unix_socket_is_one_for_all(tmp_path):
    with closing(await Place.reserve(Address(unix=str(tmp_path / "s")))) as place:
        first, second = place.sockets() + place.sockets()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "s"))
            second.accept()[0].close()
        first.close()
        second.close()

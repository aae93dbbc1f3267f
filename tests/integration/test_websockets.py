"""WebSockets through the sidecar, with the ``websockets`` library on both ends."""

from __future__ import annotations

import asyncio
import random
from contextlib import closing

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.support import services
from tests.support.sidecar import Sidecar, config_for

pytestmark = pytest.mark.xdist_group("websockets")


@pytest.fixture(scope="module")
def proxy(websocket_echo, tmp_path_factory):
    config = config_for(websocket_echo.url)
    config["upstreams"]["app"]["timeouts"] = {"total": "300ms"}
    with closing(Sidecar(config, tmp_path_factory.mktemp("websockets"))) as sidecar:
        yield sidecar


def open_socket(proxy, **options):
    return connect(f"ws://127.0.0.1:{proxy.port}/", proxy=None, open_timeout=15, max_size=None, **options)


async def test_messages_of_every_size_come_back(proxy):
    # 125 and 65535 are where the frame's length takes more octets (RFC 6455, section 5.2).
    sizes = [0, 1, 125, 126, 65_535, 65_536, 1_000_000]
    async with open_socket(proxy) as socket:
        for size in sizes:
            message = random.Random(size).randbytes(size)
            await socket.send(message)
            assert await asyncio.wait_for(socket.recv(), 15) == message


async def test_text_pings_and_subprotocols(proxy):
    async with open_socket(proxy, subprotocols=["echo", "other"]) as socket:
        assert socket.subprotocol == "echo"
        await socket.send("grüß dich \N{SNOWMAN}")
        assert await asyncio.wait_for(socket.recv(), 15) == "grüß dich \N{SNOWMAN}"
        await asyncio.wait_for(await socket.ping(), 15)


async def test_compression_is_negotiated_end_to_end(proxy):
    async with open_socket(proxy, compression="deflate") as socket:
        assert "permessage-deflate" in socket.response.headers["Sec-WebSocket-Extensions"]
        message = "a" * 100_000
        await socket.send(message)
        assert await asyncio.wait_for(socket.recv(), 15) == message


async def test_closing_codes_pass(proxy):
    async with open_socket(proxy) as socket:
        await socket.close(code=4001, reason="enough")
        assert (socket.close_code, socket.close_reason) == (4001, "enough")


async def test_many_at_once(proxy):
    async def converse(number):
        async with open_socket(proxy) as socket:
            for turn in range(20):
                await socket.send(f"{number}:{turn}")
                assert await asyncio.wait_for(socket.recv(), 30) == f"{number}:{turn}"

    await asyncio.gather(*(converse(number) for number in range(30)))


async def test_messages_are_pipelined_under_back_pressure(proxy):
    """More in flight than any buffer holds: whoever stopped reading would deadlock."""
    message = bytes(200_000)
    count = 100
    async with open_socket(proxy, compression=None) as socket:

        async def send():
            for _ in range(count):
                await socket.send(message)

        sender = asyncio.create_task(send())
        for _ in range(count):
            assert len(await asyncio.wait_for(socket.recv(), 30)) == len(message)
        await sender


async def test_the_handshake_carries_a_correlation_id_and_is_logged(proxy):
    async with open_socket(proxy, additional_headers={"X-Correlation-ID": "ws-1"}) as socket:
        assert socket.response.headers["X-Correlation-ID"] == "ws-1"
        await socket.send("x")
        await socket.recv()
    line = await asyncio.to_thread(proxy.access_line, correlation_id="ws-1")
    assert (line["status"], line["method"]) == (101, "GET")


async def test_the_services_death_is_seen_by_the_client(start_sidecar):
    """Its connection breaks; the client does not wait for ever."""
    service = await asyncio.to_thread(services.websocket_echo)
    sidecar = await asyncio.to_thread(start_sidecar, config_for(service.url))
    async with open_socket(sidecar) as socket:
        await socket.send("x")
        assert await socket.recv() == "x"
        service.process.kill()
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(socket.recv(), 15)

"""Every fault at once, from both sides, at random: afterwards nothing is held, nothing is open, all is well.

``SIDECAR_CHAOS_SECONDS`` makes it longer than the suite can afford; ``SIDECAR_CHAOS_SEED``, which a failing
run prints, makes the same choices again.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from random import Random, SystemRandom

import pytest

from tests.faults.moody import GOOD, MOODS, Moody
from tests.faults.rude import Rude
from tests.support.crowd import read_answer
from tests.support.waiting import eventually

SECONDS = float(os.environ.get("SIDECAR_CHAOS_SECONDS", "15"))
SEED = int(os.environ.get("SIDECAR_CHAOS_SEED", SystemRandom().randrange(2**32)))
CLIENTS = 40
GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
GROWTH = 30  # MiB: pools, caches and the allocator's reserve; a leak of a KiB per request is more in minutes

# A breaker whose probes fail stays open twice as long each time, up to two minutes: at the end it may be open
# for as long as all of it has lasted.
LONGEST_OPEN = min(1.1 * SECONDS, 132.0)

pytestmark = pytest.mark.timeout(SECONDS + LONGEST_OPEN + 100)


def config(*hosts):
    return {
        "upstreams": {
            "app": {
                "urls": [f"http://127.0.0.1:{host.port}" for host in hosts],
                "timeouts": {
                    "connect": "300ms",
                    "first_byte": "300ms",
                    "per_try": "500ms",
                    "idle": "400ms",
                    "total": "2s",
                },
                "pool": {"idle": "1s", "max_connections": 20},
                "breaker": {"reset_timeout": "200ms"},
                "retry": {"initial_delay": "10ms", "max_delay": "50ms"},
                "bulkhead": {"max_concurrent": 25, "max_queue": 10, "queue_timeout": "50ms"},
            }
        },
        # Kept answers are no leak, but a minute of them would look like one.
        "routes": [
            {
                "name": "default",
                "match": {"prefix": "/"},
                "upstream": "app",
                "idempotency": {"ttl": "1s"},
            }
        ],
        "limits": {"body_idle": "500ms", "keep_alive": "2s"},
    }


def test_nothing_is_left_of_a_run_of_faults(start_sidecar):
    print(f"SIDECAR_CHAOS_SEED={SEED}")
    asyncio.run(run(start_sidecar, Random(SEED)))


async def run(start_sidecar, random):
    async with Moody(random) as one, Moody(random) as two:
        hosts = [one, two]
        sidecar = await asyncio.to_thread(start_sidecar, config(*hosts))
        await ask_gently(sidecar.port, 50)
        await settled(sidecar, hosts)
        before = await asyncio.to_thread(footprint, sidecar)
        told = await rage(sidecar, hosts, random)
        print(dict(told), *(dict(host.seen) for host in hosts), sep="\n")
        assert_everything_happened(sidecar, told, one.seen + two.seen)
        await settled(sidecar, hosts)
        await breakers_close(sidecar)
        await settled(sidecar, hosts)
        after = await asyncio.to_thread(footprint, sidecar)
    assert (after["fds"], after["tasks"]) == (before["fds"], before["tasks"])
    assert after["rss"] < before["rss"] + GROWTH


async def rage(sidecar, hosts, random):
    """Let clients and upstreams loose on the sidecar, and heal the upstreams; what clients were told."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + SECONDS
    clients = Rude(sidecar.port, random)
    moods = asyncio.create_task(change_moods(hosts, random))
    await clients.work(CLIENTS, lambda: loop.time() < ends)
    moods.cancel()
    with suppress(asyncio.CancelledError):
        await moods
    for host in hosts:
        host.mood = lambda: "ok"
        host.close()
        await host.open()
    return clients.told


async def change_moods(hosts, random):
    """Good times, bad times, and times at which a host is not there."""
    while True:
        host = random.choice(hosts)
        faults = random.choice([0.02, 0.3, 1.0])

        def mood(faults=faults):
            return random.choice(MOODS) if random.random() < faults else random.choice(GOOD)

        host.mood = mood
        await asyncio.sleep(random.random())
        what = random.random()
        if what < 0.3:
            host.close()
            host.reset_all()
            await asyncio.sleep(random.random() * 0.5)
            await host.open()
        elif what < 0.6:
            host.reset_all()


def assert_everything_happened(sidecar, told, seen):
    """It was chaos: every fault took place, and every guard had to act."""
    assert set(MOODS) <= set(seen)
    assert told["200"] > 100
    assert sidecar.metric("circuit_breaker_transitions_total", to="open") > 0
    assert sidecar.metric("retries_total") > 0
    assert sidecar.metric("bulkhead_rejected_total") > 0


async def ask_gently(port, count):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(count):
        writer.write(GET)
        await read_answer(reader)
    writer.close()


async def settled(sidecar, hosts):
    """Wait until nothing is held or open any more, on either side."""
    found = [{}]

    def nothing_is_held():
        found[0] = held(sidecar)
        return not found[0]

    try:
        await asyncio.to_thread(eventually, nothing_is_held, "nothing is held", every=0.02)
    except AssertionError as late:
        raise AssertionError(f"still held: {found[0]}") from late
    await asyncio.to_thread(
        eventually, lambda: not any(host.connections for host in hosts), "no connection is open"
    )


def held(sidecar):
    """Whatever is still in use, by name."""
    (app,) = sidecar.get("/admin/upstreams").json()["items"]
    status = sidecar.get("/admin/status").json()
    figures = {
        "requests": status["in_flight"],
        "keys": status["idempotency"]["running"],
        "permits": app["bulkhead"]["in_use"],
        "waiting": app["bulkhead"]["waiting"],
        "streams": app["bulkhead"]["streams"],
        "retries": app["retries"]["in_flight"],
        "active": app["retries"]["active"],
        "active, by the metric": sidecar.metric("http_server_active_requests"),
        "permits, by the metric": sidecar.metric("bulkhead_in_use"),
    }
    for host in app["hosts"]:
        figures[f"connections to {host['host']}"] = host["connections"]["open"]
        figures[f"probes of {host['host']}"] = host["breaker"]["probes_in_flight"]
    return {name: figure for name, figure in figures.items() if figure}


async def breakers_close(sidecar):
    """By themselves, as soon as there is good traffic again."""

    def closed():
        (app,) = sidecar.get("/admin/upstreams").json()["items"]
        return all(host["breaker"]["state"] == "closed" for host in app["hosts"])

    loop = asyncio.get_running_loop()
    ends = loop.time() + LONGEST_OPEN + 20
    while loop.time() < ends:
        await ask_gently(sidecar.port, 10)
        if await asyncio.to_thread(closed):
            return
        await asyncio.sleep(0.2)
    raise AssertionError("a breaker is still not closed")


def footprint(sidecar):
    """What the process has: open files, tasks, and memory in MiB."""
    process = Path(f"/proc/{sidecar.process.pid}")
    pages = int((process / "statm").read_text().split()[1])
    return {
        "fds": len(list((process / "fd").iterdir())),
        "tasks": sidecar.get("/admin/status").json()["tasks"],
        "rss": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
    }

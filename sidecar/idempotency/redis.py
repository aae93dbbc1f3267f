"""Records in Redis or Valkey: standalone, Sentinel, Cluster.

Each operation is one script on one key, so it is atomic everywhere and takes one round trip. The scripts
are in ``lua``; what a record looks like is said in ``codec``.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import hiredis

from sidecar.digits import decimal
from sidecar.idempotency.address import parse_redis_url
from sidecar.idempotency.advice import read_info, weaknesses
from sidecar.idempotency.claim import Claim
from sidecar.idempotency.codec import LOSSES, decode, encode_tail
from sidecar.idempotency.connection import pack
from sidecar.idempotency.core import ForeignRecordError
from sidecar.idempotency.link import Link, refusal
from sidecar.idempotency.listing import list_records
from sidecar.idempotency.scripts import Script, ScriptRunner, bulk
from sidecar.idempotency.store import Granted, Page, Settled, StoreError
from sidecar.idempotency.watch import Watch, Watchers

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from typing import Any

    from sidecar.idempotency.connection import Reply
    from sidecar.idempotency.core import Loss, State
    from sidecar.idempotency.record import Record, Response

_CLAIM: Final = Script("claim", arguments=7)
_RENEW: Final = Script("renew", arguments=3)
_AMEND: Final = Script("amend", arguments=2)
_COMPLETE: Final = Script("complete", arguments=3)
_RELEASE: Final = Script("release", arguments=1)
_MARK_UNKNOWN: Final = Script("mark_unknown", arguments=3)
_GET: Final = Script("get", arguments=0)
_RESOLVE: Final = Script("resolve", arguments=3)
_FREE: Final = Script("free", arguments=0)

# What the scripts return.
_DONE_AND_WATCHED: Final = 2
_SETTLED: Final = {0: Settled.GONE, 1: Settled.DONE, _DONE_AND_WATCHED: Settled.DONE, 3: Settled.LOST}
_GRANTED: Final = {1: Granted.FRESH, 2: Granted.AGAIN}

# Seconds; without the subscription a duplicate that waits looks again by itself.
_SUBSCRIBE_PATIENCE: Final = 0.5


class RedisIdempotencyStore:
    """A store that processes share.

    Args:
        url: See ``address``.
        key_prefix: Put before every record's id.
        timeout: Seconds that Redis may be silent where no claim says so.

    Raises:
        ValueError: The URL is malformed.
    """

    def __init__(self, url: str, *, key_prefix: str = "idempotency:", timeout: float = 1.0) -> None:
        self._address = parse_redis_url(url)
        self._prefix = key_prefix.encode()
        self._channel = self._prefix + b"settled"
        self._timeout = timeout
        self._runner: ScriptRunner | None = None
        self._ears: Link | None = None
        self._closed_in: asyncio.AbstractEventLoop | None = None
        self._watchers = Watchers()

    async def claim(
        self, claim: Claim, *, over: bytes | None = None, watched: bool = False
    ) -> Granted | Record:
        """See :meth:`IdempotencyStore.claim`."""
        runner = self._runner or self._start()
        key = self._prefix + claim.record_id.encode()
        tail = encode_tail(claim)
        options = _claim_options(claim.lease, claim.ttl, over, watched)
        for _ in range(2):
            link = runner.servers.link(key) or await runner.servers.find(key)
            asked_at = link.now()
            latest = b"%d" % int((asked_at + claim.timeout + link.ahead) * 1000)
            # Claims and completions are packed in one step: lists of arguments take four times as long.
            arguments = b"$%b\r\n%b\r\n$16\r\n%b\r\n$%b\r\n%b\r\n%b$%b\r\n%b\r\n" % (
                decimal(len(key)),
                key,
                claim.token,
                decimal(len(tail)),
                tail,
                options,
                decimal(len(latest)),
                latest,
            )
            reply = await link.send(_CLAIM.by_name + arguments, claim.timeout)
            if type(reply) is not int and isinstance(reply, hiredis.HiredisError):
                reply = await runner.insist(reply, link, _CLAIM, arguments, claim.timeout)
            if type(reply) is int:
                return _GRANTED[reply]
            now: int = reply[0]
            if len(reply) > 1:
                record = decode(claim.record_id, reply[1], now)
                assert record is not None  # a claim is put over a freed record
                return record
            # Too late, says the server, but its answer came in time: its clock has been set forward.
            link.set_time(now / 1000, asked_at)
        raise StoreError("Redis took too long over a claim", reason="timeout", maybe_done=False)

    async def renew(self, claims: Sequence[Claim]) -> list[Settled]:
        """See :meth:`IdempotencyStore.renew`."""
        runner = self._runner or self._start()
        calls = []
        for claim in claims:
            key = self._key(claim.record_id)
            lease, life = _milliseconds(claim.lease), _milliseconds(claim.lease + claim.ttl)
            calls.append((key, bulk(key, claim.token, lease, life)))
        return [_SETTLED[reply] for reply in await runner.run_all(_RENEW, calls, self._timeout)]

    def amend(self, claim: Claim) -> Coroutine[Any, Any, Settled]:
        """See :meth:`IdempotencyStore.amend`."""
        key = self._key(claim.record_id)
        return self._settle(_AMEND, claim, key, bulk(key, claim.token, encode_tail(claim)))

    def complete(self, claim: Claim, response: Response) -> Coroutine[Any, Any, Settled]:
        """See :meth:`IdempotencyStore.complete`."""
        key = self._key(claim.record_id)
        tail = encode_tail(claim, response)
        life = _bulk_milliseconds(claim.ttl)
        arguments = b"$%b\r\n%b\r\n$16\r\n%b\r\n$%b\r\n%b\r\n%b" % (
            decimal(len(key)),
            key,
            claim.token,
            decimal(len(tail)),
            tail,
            life,
        )
        return self._settle(_COMPLETE, claim, key, arguments)

    def release(self, claim: Claim) -> Coroutine[Any, Any, Settled]:
        """See :meth:`IdempotencyStore.release`."""
        key = self._key(claim.record_id)
        return self._settle(_RELEASE, claim, key, bulk(key, claim.token))

    def mark_unknown(self, claim: Claim, loss: Loss) -> Coroutine[Any, Any, Settled]:
        """See :meth:`IdempotencyStore.mark_unknown`."""
        key = self._key(claim.record_id)
        arguments = bulk(key, claim.token, LOSSES[loss], _milliseconds(claim.ttl))
        return self._settle(_MARK_UNKNOWN, claim, key, arguments)

    async def get(self, record_id: str) -> Record | None:
        """See :meth:`IdempotencyStore.get`."""
        runner, key = self._runner or self._start(), self._key(record_id)
        now, found = await runner.run(_GET, key, bulk(key), self._timeout)
        return None if found is None else decode(record_id, found, now)

    async def page(
        self,
        *,
        state: State | None = None,
        route: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page:
        """See :meth:`IdempotencyStore.page`. A page ends after about 25,000 keys, even with nothing in it."""
        return await list_records(
            self._runner or self._start(),
            self._prefix,
            state=state,
            route=route,
            cursor=cursor,
            limit=limit,
            patience=self._timeout,
        )

    async def resolve(self, record_id: str, response: Response, ttl: float) -> Settled:
        """See :meth:`IdempotencyStore.resolve`."""
        record = await self.get(record_id)
        if record is None:
            return Settled.GONE
        claim = Claim(
            record_id,
            record.token,
            record.fingerprint,
            record.route,
            record.correlation_id,
            lease=0.0,
            ttl=ttl,
            span=record.span,
        )
        key = self._key(record_id)
        arguments = bulk(key, claim.token, encode_tail(claim, response), _milliseconds(ttl))
        return await self._settle(_RESOLVE, claim, key, arguments)

    async def free(self, record_id: str) -> Settled:
        """See :meth:`IdempotencyStore.free`."""
        runner, key = self._runner or self._start(), self._key(record_id)
        return self._note(record_id, await runner.run(_FREE, key, bulk(key), self._timeout))

    async def watch(self, record_id: str) -> Watch:
        """See :meth:`IdempotencyStore.watch`. One subscription serves all that wait in this process."""
        runner = self._runner or self._start()
        if self._ears is None:
            self._ears = runner.servers.listen(self._channel, self._heard)
        await self._ears.connected(_SUBSCRIBE_PATIENCE)
        return Watch(self._watchers, record_id)

    async def check(self) -> None:
        """See :meth:`IdempotencyStore.check`."""
        for link in await (self._runner or self._start()).servers.masters():
            reply = await link.send(pack(("PING",)), self._timeout)
            if isinstance(reply, hiredis.HiredisError):
                raise refusal(reply)

    async def ask(self, key: bytes, *command: bytes) -> Reply:
        """The reply to one command about ``key``, for what else is kept on the same servers.

        Raises:
            StoreError: It cannot be had.
        """
        servers = (self._runner or self._start()).servers
        link = servers.link(key) or await servers.find(key)
        reply = await link.send(pack(command), self._timeout)
        if isinstance(reply, hiredis.HiredisError):
            raise refusal(reply)
        return reply

    async def weaknesses(self) -> list[str]:
        """See :meth:`IdempotencyStore.weaknesses`: settings of the servers."""
        found: dict[str, None] = {}
        for link in await (self._runner or self._start()).servers.masters():
            reply = await link.send(pack(("INFO",)), self._timeout)
            if not isinstance(reply, hiredis.HiredisError):
                found |= dict.fromkeys(weaknesses(read_info(reply)))
        return list(found)

    async def aclose(self) -> None:
        """See :meth:`IdempotencyStore.aclose`. In another event loop the store opens again."""
        self._closed_in = asyncio.get_running_loop()
        ears, self._ears = self._ears, None
        runner, self._runner = self._runner, None
        if ears is not None:
            await ears.aclose()
        if runner is not None:
            await runner.aclose()

    def _start(self) -> ScriptRunner:
        """Nothing is connected before it is needed, so that a store can be made before the loop runs."""
        if self._closed_in is asyncio.get_running_loop():
            raise StoreError("the store is closed", reason="refused", maybe_done=False)
        self._runner = ScriptRunner(self._address)
        return self._runner

    def _key(self, record_id: str) -> bytes:
        return self._prefix + record_id.encode()

    async def _settle(self, script: Script, claim: Claim, key: bytes, arguments: bytes) -> Settled:
        runner = self._runner or self._start()
        link = runner.servers.link(key) or await runner.servers.find(key)
        reply = await link.send(script.by_name + arguments, claim.timeout)
        if type(reply) is not int and isinstance(reply, hiredis.HiredisError):
            try:
                reply = await runner.insist(reply, link, script, arguments, claim.timeout)
            except ForeignRecordError:
                return Settled.LOST
        return self._note(claim.record_id, reply)

    def _note(self, record_id: str, reply: int) -> Settled:
        """Tell the processes that wait, where the record says that any do."""
        if reply == _DONE_AND_WATCHED:
            self._watchers.wake(record_id)
            runner = self._runner or self._start()
            runner.tell(self._key(record_id), self._channel, record_id.encode())
        return _SETTLED[reply]

    def _heard(self, message: list[Reply]) -> None:
        _, _, record_id = message
        self._watchers.wake(record_id.decode(errors="replace"))


@lru_cache(maxsize=256)
def _milliseconds(seconds: float) -> bytes:
    return b"%d" % int(seconds * 1000)


@lru_cache(maxsize=256)
def _bulk_milliseconds(seconds: float) -> bytes:
    return bulk(_milliseconds(seconds))


@lru_cache(maxsize=256)
def _claim_options(lease: float, ttl: float, over: bytes | None, watched: bool) -> bytes:
    """What is the same for all claims of a route, except for the few that look a second time."""
    return bulk(_milliseconds(lease), _milliseconds(lease + ttl), over or b"", b"1" if watched else b"0")

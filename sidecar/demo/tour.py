"""The tour: a few requests, what came back, and what it means."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import TYPE_CHECKING

from rich.text import Text

from sidecar.demo.call import Answer, Call

if TYPE_CHECKING:
    import aiohttp
    from rich.console import Console

    from sidecar.demo.processes import Addresses

_POLL_SECONDS = 0.02
_SHOWN_METRICS = ("http_requests_total{", "idempotency_requests_total{", "circuit_breaker_state{")


class TourFailed(Exception):  # noqa: N818 - says what happened
    """The sidecar did not answer as the tour explains."""


class Tour:
    """Walks through correlation, replay, 409, 422 and the metrics, against a running sidecar.

    Args:
        console: Where it is told.
        session: Sends the requests.
        addresses: Where the sidecar and the service listen.
    """

    def __init__(self, console: Console, session: aiohttp.ClientSession, addresses: Addresses) -> None:
        self._console = console
        self._session = session
        self._payments = f"http://{addresses.listen}/payments"
        self._metrics = f"http://{addresses.admin}/metrics"
        self._key = f"order-{secrets.token_hex(3)}"

    async def walk(self) -> None:
        """Take every step.

        Raises:
            TourFailed: An answer was not what the step explains.
            aiohttp.ClientError: No answer came.
        """
        steps = (
            self._correlation,
            self._first_payment,
            self._replay,
            self._conflict,
            self._in_progress,
            self._count_metrics,
        )
        for number, step in enumerate(steps, start=1):
            self._console.print()
            self._console.rule(f"[bold]{number} of {len(steps)}[/]", align="left")
            await step()

    def curl_lines(self) -> list[str]:
        """Lines for the shell to go on with."""
        return [
            self._pay("my-first-key", 42).curl(),
            Call("GET", self._payments).curl(),
            Call("GET", self._payments, {"X-Correlation-ID": "find-me-in-the-logs"}).curl(),
            Call("GET", self._metrics).curl(),
        ]

    async def _correlation(self) -> None:
        self._say(
            "Every request has a correlation id: the caller's own, or a fresh one. The service sees it too."
        )
        answer = await self._show(Call("GET", self._payments, {"X-Correlation-ID": "demo-1"}), 200)
        seen = json.loads(answer.body)["correlation_id_seen"]
        if not answer.fields.get("X-Correlation-ID") == seen == "demo-1":
            raise TourFailed(f"expected the correlation id demo-1 everywhere, got {answer}")

    async def _first_payment(self) -> None:
        self._say(
            "A payment with an Idempotency-Key. The service knows nothing of such keys and executes it."
        )
        await self._show(self._pay(self._key, 100), 201)
        await self._tell_executions(1)

    async def _replay(self) -> None:
        self._say(
            "The client did not hear the answer and asks again: it gets the same one, nothing is executed."
        )
        answer = await self._show(self._pay(self._key, 100), 201)
        if answer.fields.get("X-Idempotent-Replayed") != "true":
            raise TourFailed(f"expected X-Idempotent-Replayed: true, got {answer}")
        await self._tell_executions(1)

    async def _conflict(self) -> None:
        self._say("The same key for another amount is a mistake of the client's: 422, nothing is executed.")
        await self._show(self._pay(self._key, 999), 422)
        await self._tell_executions(1)

    async def _in_progress(self) -> None:
        self._say("Two at once with one key: while the first is running, the second is told so with 409.")
        call = self._pay(f"{self._key}-twice", 1000)  # so large that it takes a second
        first = asyncio.ensure_future(call.send(self._session))
        try:
            await self._until_executed(2, first)
            await self._show(call, 409)
            answer = await first
        finally:
            first.cancel()
        self._console.print(Text(f"the first one meanwhile: {answer.status} {answer.body}", style="green"))
        self._expect(answer, 201)
        await self._tell_executions(2)

    async def _count_metrics(self) -> None:
        self._say("All of it has been counted, under the names that dashboards ask for.")
        answer = await Call("GET", self._metrics).send(self._session)
        self._expect(answer, 200)
        shown = [line for line in answer.body.splitlines() if line.startswith(_SHOWN_METRICS)]
        self._print_exchange(f"curl -s {self._metrics}", shown)
        if not any(line.startswith("http_requests_total{") for line in shown):
            raise TourFailed("expected http_requests_total among the metrics, found none")

    def _pay(self, key: str, amount: int) -> Call:
        return Call("POST", self._payments, {"Idempotency-Key": key}, {"amount": amount})

    async def _show(self, call: Call, status: int) -> Answer:
        answer = await call.send(self._session)
        self._print_exchange(call.curl(), answer.lines())
        self._expect(answer, status)
        return answer

    async def _tell_executions(self, expected: int) -> None:
        executions = await self._executions()
        self._console.print(Text(f"executed by the service so far: {executions}", style="green"))
        if executions != expected:
            raise TourFailed(f"expected {expected} executions, the service counts {executions}")

    async def _until_executed(self, number: int, call: asyncio.Future[Answer]) -> None:
        """Wait until the service has begun with payment ``number``, which ``call`` asks for."""
        while not call.done() and await self._executions() < number:  # noqa: ASYNC110 - the service has no events
            await asyncio.sleep(_POLL_SECONDS)

    async def _executions(self) -> int:
        answer = await Call("GET", self._payments).send(self._session)
        executions: int = json.loads(answer.body)["executions"]
        return executions

    def _say(self, text: str) -> None:
        self._console.print(Text(text))

    def _print_exchange(self, curl: str, lines: list[str]) -> None:
        # Not wrapped: these lines are there to be copied and compared.
        self._console.print(Text(f"$ {curl}", style="bold cyan"), soft_wrap=True)
        for line in lines:
            self._console.print(Text(f"  {line}"), soft_wrap=True)

    @staticmethod
    def _expect(answer: Answer, status: int) -> None:
        if answer.status != status:
            raise TourFailed(f"expected status {status}, got {answer}")

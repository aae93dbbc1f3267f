"""Upstreams made ready for requests: their hosts, and what guards them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.balancing import Host, RoundRobin
from sidecar.breaker import layout
from sidecar.breaker.core import Breaker
from sidecar.breaker.outcome import Outcome, outcomes_by_status
from sidecar.breaker.settings import BreakerSettings
from sidecar.bulkhead import core as permits
from sidecar.bulkhead.adaptive import GradientLimit
from sidecar.bulkhead.core import Permits
from sidecar.bulkhead.waiting import Waiter, wake
from sidecar.health import COMMON_CELLS as HEALTH_CELLS
from sidecar.health import Health
from sidecar.metrics.outcomes import ATTEMPT_OUTCOMES, REJECTED_BECAUSE
from sidecar.net.pool import Pool
from sidecar.retry import budget
from sidecar.retry.backoff import Backoff
from sidecar.retry.budget import RetryBudget
from sidecar.retry.policy import RETRYABLE_STATUSES, RetryPolicy
from sidecar.tls import client_context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.breaker.states import Transition
    from sidecar.metrics.cells import Counter
    from sidecar.metrics.names import Metrics
    from sidecar.net.deadlines import Deadlines
    from sidecar.scoreboard.row import Rows
    from sidecar.settings import model
    from sidecar.settings.addresses import UpstreamUrl
    from sidecar.wire.fields import FieldRules
    from sidecar.wire.head import Limits


class Build:
    """What upstreams and plans are built with."""

    __slots__ = ("deadlines", "limits", "metrics", "on_transition", "response_rules", "rows")

    def __init__(
        self,
        *,
        metrics: Metrics,
        deadlines: Deadlines,
        limits: Limits,
        response_rules: FieldRules,
        on_transition: Callable[[Transition], None],
        rows: Rows,
    ) -> None:
        self.metrics = metrics
        self.deadlines = deadlines
        self.limits = limits
        self.response_rules = response_rules
        self.on_transition = on_transition
        self.rows = rows


class UpstreamHost(Host):
    """One host of an upstream.

    Attributes:
        label: ``HOST:PORT``, for logs, metrics and operators.
        url: Where it is.
        authority: What it is called in ``Host`` under ``host: rewrite``, and by HTTP/1.0 clients' requests.
    """

    __slots__ = ("authority", "label", "pool", "url")

    def __init__(self, url: UpstreamUrl, pool: Pool, breaker: Breaker, health: Health) -> None:
        super().__init__(breaker, health)
        self.url = url
        self.label = pool.label
        self.authority = b"localhost" if url.unix else pool.label.encode()
        self.pool = pool

    def __repr__(self) -> str:
        return f"<UpstreamHost {self.label}>"


class Upstream:
    """A service that requests go to, with all that guards it.

    Attributes:
        outcomes: What a response's status says of the host, by status.
        is_final: Whether a response is passed on without asking if it should be tried again, by status.
        refusing: An attempt has found no breaker that let it pass, and perhaps the next one will not either.
        attempts: Cells of ``upstream_attempts_total`` by outcome.
        rejected: Cells of ``bulkhead_rejected_total`` by reason.
    """

    def __init__(
        self, name: str, settings: model.Upstream, build: Build, previous: Upstream | None = None
    ) -> None:
        self.name = name
        self.settings = settings
        self.timeouts = settings.timeouts
        self.rewrites_host = settings.host == "rewrite"
        self.replay_body = settings.retry.replay_body
        self.queue_timeout = settings.bulkhead.queue_timeout
        self.retry = RetryPolicy(
            max_attempts=settings.retry.max_attempts,
            backoff=Backoff(
                initial_delay=settings.retry.initial_delay,
                multiplier=settings.retry.multiplier,
                max_delay=settings.retry.max_delay,
                jitter=settings.retry.jitter,
            ),
        )
        self.outcomes = outcomes_by_status(settings.breaker.failure_statuses)
        self.is_final = tuple(
            outcome is Outcome.GOOD and status not in RETRYABLE_STATUSES
            for status, outcome in enumerate(self.outcomes)
        )
        self.hosts = tuple(self._host(url, build, previous) for url in settings.hosts)
        self.balancer = RoundRobin(self.hosts)
        self.refusing = False
        self.adaptive = self._adaptive(previous)
        # What is in flight goes on counting under the new bounds.
        self.budget: RetryBudget = self._budget(build) if previous is None else previous.budget
        if self.budget.share != settings.retry.budget:
            self.budget = self._budget(build)
        self.permits: Permits[Waiter] = self._permits(build) if previous is None else previous.permits
        metrics = build.metrics
        self.attempts: Mapping[str, Counter] = metrics.upstream_attempts.children(
            "outcome", ATTEMPT_OUTCOMES, upstream=name
        )
        self.rejected: Mapping[str, Counter] = metrics.bulkhead_rejected.children(
            "reason", REJECTED_BECAUSE, upstream=name
        )

    def take_over(self) -> None:
        """The configuration is in force: what was shared with the one before takes its bounds."""
        self.permits.resize(self._limit, self.settings.bulkhead.max_queue)

    def _adaptive(self, previous: Upstream | None) -> GradientLimit | None:
        """What finds the bulkhead's limit; it keeps what it has learned while its bounds stay."""
        bounds = self.settings.bulkhead
        if not bounds.adaptive:
            return None
        if previous is not None and previous.adaptive is not None and previous.settings.bulkhead == bounds:
            return previous.adaptive
        return GradientLimit(bounds.max_concurrent)

    @property
    def _limit(self) -> int:
        return self.settings.bulkhead.max_concurrent if self.adaptive is None else self.adaptive.limit

    @property
    def row_names(self) -> set[str]:
        """The rows that its guards keep their numbers in."""
        names = {f"budget:{self.name}", f"permits:{self.name}"}
        for host in self.hosts:
            names |= {f"breaker:{self.name}/{host.url}", f"health:{self.name}/{host.url}"}
        return names

    @property
    def is_idle(self) -> bool:
        """Whether no request of this process goes through it."""
        return not (self.budget.own_active or self.permits.own)

    def _budget(self, build: Build) -> RetryBudget:
        row = build.rows.row(f"budget:{self.name}", common=budget.COMMON_CELLS, own=budget.OWN_CELLS)
        return RetryBudget(self.settings.retry.budget, row=row)

    def _permits(self, build: Build) -> Permits[Waiter]:
        row = build.rows.row(f"permits:{self.name}", common=permits.COMMON_CELLS, own=permits.OWN_CELLS)
        queue = self.settings.bulkhead.max_queue
        return Permits(self._limit, queue, grant=wake, row=row, ring=build.rows.ring)

    def _host(self, url: UpstreamUrl, build: Build, previous: Upstream | None) -> UpstreamHost:
        settings = self.settings
        pool = Pool(
            url,
            tls=client_context(settings.tls) if url.is_tls else None,
            rules=build.response_rules,
            limits=build.limits,
            deadlines=build.deadlines,
            max_connections=settings.pool.max_connections,
            idle=settings.pool.idle,
            connect=settings.timeouts.connect,
        )
        before = previous.hosts if previous is not None else ()
        known = next((host for host in before if host.url == url), None)
        breaker = self._breaker(f"{self.name}/{pool.label}", url, build, known)
        was_checked = previous is not None and previous.settings.health is not None
        health = self._health(url, build, known if was_checked else None)
        return UpstreamHost(url, pool, breaker, health)

    def _health(self, url: UpstreamUrl, build: Build, known: UpstreamHost | None) -> Health:
        if self.settings.health is None:
            return Health()
        if known is not None:
            return known.health
        return Health(build.rows.row(f"health:{self.name}/{url}", common=HEALTH_CELLS, own=0))

    def _breaker(self, name: str, url: UpstreamUrl, build: Build, known: UpstreamHost | None) -> Breaker:
        """A breaker under the present thresholds, in the state (override included) of the one before."""
        breaker = self.settings.breaker
        wanted = BreakerSettings(
            failure_threshold=breaker.failure_threshold,
            success_threshold=breaker.success_threshold,
            reset_timeout=breaker.reset_timeout,
            failure_rate=breaker.failure_rate,
            window=breaker.window,
            minimum_calls=breaker.minimum_calls,
            slow_call=breaker.slow_call,
            slow_rate=breaker.slow_rate,
        )
        if known is not None and known.breaker.settings == wanted:
            return known.breaker
        row = (
            build.rows.row(f"breaker:{self.name}/{url}", common=layout.COMMON_CELLS, own=layout.OWN_CELLS)
            if known is None
            else known.breaker.row
        )
        return Breaker(name, wanted, row=row, on_transition=build.on_transition)

    def close(self) -> None:
        """Close idle connections; those in use end with their exchanges."""
        for host in self.hosts:
            host.pool.close()

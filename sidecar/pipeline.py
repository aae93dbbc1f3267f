"""A configuration made ready for requests: what can be looked up, joined or made is, once, at load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.idempotency.fingerprint import Kind
from sidecar.idempotency.policy import RoutePolicy
from sidecar.metrics.outcomes import IDEMPOTENCY_RESULTS
from sidecar.metrics.route import UNMATCHED, RouteMetrics
from sidecar.routing import Router
from sidecar.scoreboard.row import PrivateRows
from sidecar.upstreams import Build, Upstream
from sidecar.wire.fields import REMOVED, RESPONSE_FIELDS, FieldRules
from sidecar.wire.head import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sidecar.audited import AuditedRoute
    from sidecar.breaker.states import Transition
    from sidecar.metrics.cells import Counter
    from sidecar.metrics.names import Metrics
    from sidecar.net.deadlines import Deadlines
    from sidecar.scoreboard.row import Rows
    from sidecar.settings import model


class Destination:
    """Where a request is sent, and how: all that sending needs to know.

    Attributes:
        upstream: Where it goes.
        fallback: Where it goes while every breaker of ``upstream`` is open.
        upstream_dedupes: Whether the upstream recognises a request that it gets again.
        dead_letter: Whether a mutating request that finds no working upstream is kept.
        keeps_body: Whether a request's body must still be at hand when its exchange ends.
        total: Seconds for the whole exchange; ``None`` for no limit.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        fallback: Upstream | None = None,
        upstream_dedupes: bool = False,
        dead_letter: bool = False,
    ) -> None:
        self.upstream = upstream
        self.fallback = fallback
        self.upstream_dedupes = upstream_dedupes
        self.dead_letter = dead_letter
        self.keeps_body = dead_letter
        self.total = upstream.timeouts.total


class Plan(Destination):
    """A route, ready for requests: where they are sent, and what becomes of them before and after.

    Attributes:
        name: The route's name.
        template: Its path template or prefix, for traces.
        policy: How keys are treated.
        results: Cells of ``idempotency_requests_total`` by result.
        protected: Methods whose keys are looked at.
        fails_fast: Whether an open breaker leaves nothing to do but to answer.
        audit: Has requests recorded in the audit trail; ``None`` where the route has none.
    """

    def __init__(
        self,
        route: model.Route,
        upstream: Upstream,
        fallback: Upstream | None,
        build: Build,
        policy: RoutePolicy,
    ) -> None:
        super().__init__(
            upstream,
            fallback=fallback,
            upstream_dedupes=route.upstream_dedupes,
            dead_letter=route.dead_letter,
        )
        self.name = route.name
        self.template = route.match.path or route.match.prefix or "/"
        self.policy = policy
        self.metrics = RouteMetrics(build.metrics, route.name)
        self.results: Mapping[str, Counter] = build.metrics.idempotency_requests.children(
            "result", IDEMPOTENCY_RESULTS, route=route.name
        )
        self.protected = policy.methods if policy.enabled else frozenset()
        self.fails_fast = fallback is None and not route.dead_letter and route.audit is None
        self.audit: AuditedRoute | None = None
        self.route = route


class Pipeline:
    """One configuration in force: its upstreams and its routes.

    Args:
        settings: Validated.
        metrics: Where figures go.
        deadlines: What watches over time.
        on_transition: Told of every change of a circuit breaker.
        previous: The configuration before; what guards an upstream that stays keeps its state.
        rows: Where the numbers of breakers, budgets and bulkheads are kept.

    Raises:
        ScoreboardFull: The workers' shared memory holds no more upstreams.
    """

    def __init__(
        self,
        settings: model.Settings,
        *,
        metrics: Metrics,
        deadlines: Deadlines,
        on_transition: Callable[[Transition], None],
        previous: Pipeline | None = None,
        rows: Rows | None = None,
    ) -> None:
        self.settings = settings
        limits = settings.limits
        correlation_field = settings.correlation.header.lower().encode()
        build = Build(
            metrics=metrics,
            deadlines=deadlines,
            limits=Limits(limits.header_bytes, limits.headers, limits.request_line),
            response_rules=FieldRules(
                {
                    **RESPONSE_FIELDS,
                    **dict.fromkeys(correlation_fields(settings), REMOVED),
                    correlation_field: REMOVED,
                }
            ),
            on_transition=on_transition,
            rows=rows or PrivateRows(),
        )
        before = previous.upstreams if previous is not None else {}
        self.upstreams: dict[str, Upstream] = {
            name: Upstream(name, upstream, build, before.get(name))
            for name, upstream in settings.upstreams.items()
        }
        self.plans = tuple(self._plan(route, build) for route in settings.routes)
        matches = zip((route.match for route in settings.routes), self.plans, strict=True)
        self.router: Router[Plan] = Router(matches, [listener.name for listener in settings.listeners])
        self.unmatched = RouteMetrics(metrics, UNMATCHED)

    def _plan(self, route: model.Route, build: Build) -> Plan:
        fallback = self.upstreams[route.fallback] if route.fallback is not None else None
        return Plan(route, self.upstreams[route.upstream], fallback, build, _policy(self.settings, route))

    def take_over(self) -> None:
        """Come into force after another configuration."""
        for upstream in self.upstreams.values():
            upstream.take_over()

    def close(self) -> None:
        """Another configuration is in force: keep no connection that nobody uses."""
        for upstream in self.upstreams.values():
            upstream.close()


def correlation_fields(settings: model.Settings) -> list[bytes]:
    """The lower-case names of the fields that carry correlation ids on any listener."""
    sections = [settings.correlation, *(listener.correlation for listener in settings.listeners)]
    return [section.header.lower().encode() for section in sections if section is not None]


def _policy(settings: model.Settings, route: model.Route) -> RoutePolicy:
    wanted = route.idempotency
    field = settings.correlation.header.lower().encode()
    if wanted is None:
        return RoutePolicy(
            service=settings.service, route=route.name, enabled=False, correlation_header=field
        )
    return RoutePolicy(
        service=settings.service,
        route=route.name,
        methods=frozenset(method.encode() for method in wanted.methods),
        required=wanted.required,
        ttl=wanted.ttl,
        kind=Kind[wanted.fingerprint.upper()],
        scope=tuple(name.lower().encode() for name in wanted.scope),
        lease=wanted.lease,
        wait=wanted.on_duplicate == "wait",
        wait_timeout=wanted.wait_timeout,
        store_open=wanted.on_store_down == "open",
        store_timeout=wanted.store_timeout,
        reexecute=wanted.on_unknown == "reexecute",
        release_on=frozenset(wanted.release_on),
        replay_set_cookie=wanted.replay_set_cookie,
        correlation_header=field,
    )

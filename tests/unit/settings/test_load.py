from pathlib import Path

import pytest

from sidecar.settings.addresses import Address, UpstreamUrl
from sidecar.settings.flags import Flags
from sidecar.settings.load import load
from sidecar.settings.mistake import Invalid
from sidecar.settings.model import Idempotency, Settings

UPSTREAM = Flags(upstream="http://127.0.0.1:3000")

CONTRACT = """
service: requests-service              # `service` label, OTel service.name, key prefixes
store: ${REDIS_URL:-memory://}         # memory:// redis:// rediss:// redis+sentinel:// redis+cluster://
workers: 1
listeners:
  - {name: ingress, bind: 0.0.0.0:8080}                    # also unix:PATH; tls: {cert, key, client_ca}
  - {name: egress,  bind: 127.0.0.1:8081}                  # calls that the service makes to others
admin:   {bind: 127.0.0.1:9901, token: ${SIDECAR_ADMIN_TOKEN:-}}
metrics: {bind: 0.0.0.0:9464}          # optional: /metrics, /healthz, /readyz only, for scrapers

drain_timeout: 30s
spool:   {dir: ./spool}                # events and audit rows that wait for Redis or PostgreSQL
correlation: {header: X-Correlation-ID, inbound: trust}    # trust | regenerate
tracing:     {sample: 0.1}             # parent-based; 0 off … 1 everything
limits:      {header_bytes: 64KiB, headers: 100, request_line: 8KiB, body: none,
              header_timeout: 10s, body_idle: 30s, keep_alive: 75s, connections: 10000}

upstreams:
  app:
    url: http://127.0.0.1:3000         # http, https, unix; several: urls: […]
    timeouts: {connect: 1s, first_byte: 10s, per_try: none, idle: 60s, total: 30s}
    pool:     {max_connections: 256, idle: 4s}
    breaker:  {failure_threshold: 5, success_threshold: 3, reset_timeout: 30s,
               failure_rate: 50%, window: 10s, minimum_calls: 20, slow_call: none, slow_rate: 80%}
    retry:    {max_attempts: 3, initial_delay: 100ms, multiplier: 2, max_delay: 2s, jitter: true,
               budget: 20%, replay_body: 64KiB}
    bulkhead: {max_concurrent: 100, max_queue: 100, queue_timeout: 100ms}
  payments: {url: https://payments.internal}

routes:                                # first match wins; order is the file's
  - name: create-request
    match: {listener: ingress, path: /api/v1/requests, methods: [POST]}
    upstream: app
    idempotency: {required: true, ttl: 24h, fingerprint: json}
    dead_letter: true
    audit: {change_type: CREATED, request_id: "response:/id", new_value: "response:",
            changed_by_id: "header:X-User-ID", changed_by_type: USER, mode: required}
  - name: one-request
    match: {path: "/api/v1/requests/{id}"}                 # templates; prefix: /api; host: pay.local
    upstream: app
  - {name: payments, match: {listener: egress, host: payments.local}, upstream: payments}
  - {name: default, match: {prefix: /}, upstream: app}
"""


@pytest.fixture
def write(tmp_path):
    def written(text: str) -> Flags:
        file = tmp_path / "sidecar.yaml"
        file.write_text(text, encoding="utf-8")
        return Flags(config=str(file))

    return written


def mistakes_of(flags: Flags, environ: dict[str, str]) -> list[str]:
    with pytest.raises(Invalid) as caught:
        load(flags, environ)
    return [str(mistake) for mistake in caught.value.mistakes]


class TestWithoutAFile:
    def test_one_upstream_is_enough(self):
        settings = load(UPSTREAM, {}).settings
        assert [(each.name, str(each.bind)) for each in settings.listeners] == [("ingress", "0.0.0.0:8080")]
        assert str(settings.admin.bind) == "127.0.0.1:9901"
        assert settings.store == "memory://"
        assert settings.upstreams["app"].hosts == (UpstreamUrl("http", "127.0.0.1", 3000),)
        (route,) = settings.routes
        assert (route.name, route.upstream, route.match.prefix) == ("default", "app", "/")
        assert route.idempotency == Idempotency()

    def test_every_flag(self):
        flags = Flags(
            upstream="unix:/run/app.sock",
            listen="127.0.0.1:81",
            admin="127.0.0.1:82",
            store="redis://localhost",
            workers="4",
            log_level="WARNING",
            log_format="console",
        )
        settings = load(flags, {}).settings
        assert settings.upstreams["app"].hosts == (UpstreamUrl("unix", unix="/run/app.sock"),)
        assert settings.listeners[0].bind == Address("127.0.0.1", 81)
        assert settings.admin.bind == Address("127.0.0.1", 82)
        assert (settings.store, settings.workers) == ("redis://localhost", 4)
        assert (settings.log.level, settings.log.format) == ("warning", "console")

    def test_a_bad_flag_is_named(self):
        assert mistakes_of(Flags(upstream="http://127.0.0.1:3000", listen="8080", workers="many"), {}) == [
            "--workers: workers: expected a whole number, got 'many'",
            "--listen: listeners.0.bind: expected HOST:PORT or unix:PATH, got '8080'",
        ]

    def test_the_environment_alone(self):
        environ = {
            "SIDECAR_UPSTREAMS__APP__URL": "http://127.0.0.1:3000",
            "SIDECAR_UPSTREAMS__APP__BREAKER__FAILURE_STATUSES": "[500, 503]",
            "SIDECAR_LISTENERS__INGRESS__BIND": "127.0.0.1:81",
            "SIDECAR_ROUTES__0__NAME": "everything",
            "SIDECAR_ROUTES__0__UPSTREAM": "app",
            "SIDECAR_ROUTES__0__MATCH__PREFIX": "/",
            "SIDECAR_IDEMPOTENCY": "off",
            "SIDECAR_EVENTS__SUBSCRIPTIONS": "[{type: A, upstream: app, path: /a}]",
        }
        settings = load(Flags(), environ).settings
        assert settings.upstreams["app"].breaker.failure_statuses == (500, 503)
        assert settings.listeners[0].bind == Address("127.0.0.1", 81)
        assert settings.routes[0].name == "everything"
        assert settings.routes[0].idempotency is None
        assert settings.events.subscriptions[0].type == "A"


class TestPrecedence:
    def test_flags_over_environment_over_file(self, write):
        flags = write("workers: 2\nstore: redis://file\nservice: file\nupstreams: {app: {url: http://a}}")
        environ = {"SIDECAR_WORKERS": "3", "SIDECAR_STORE": "redis://environment"}
        settings = load(Flags(config=flags.config, workers="4"), environ).settings
        assert (settings.workers, settings.store, settings.service) == (4, "redis://environment", "file")

    def test_a_mapping_keeps_what_the_one_above_does_not_say(self, write):
        flags = write(
            "upstreams: {app: {url: http://file, timeouts: {connect: 3s, total: 4s}}}\nlog: {level: debug}"
        )
        environ = {"SIDECAR_UPSTREAMS__APP__TIMEOUTS": "{connect: 2s}", "SIDECAR_LOG": "{format: console}"}
        settings = load(flags, environ).settings
        timeouts = settings.upstreams["app"].timeouts
        assert (timeouts.connect, timeouts.total) == (2.0, 4.0)
        assert (settings.log.level, settings.log.format) == ("debug", "console")

    def test_a_list_is_taken_whole(self, write):
        flags = write("upstreams: {app: {urls: [http://one, http://two]}}")
        upstream = load(flags, {"SIDECAR_UPSTREAMS__APP__URLS": "[http://three]"}).settings.upstreams["app"]
        assert [url.host for url in upstream.hosts] == ["three"]

    def test_known_names_lie_between_file_and_own_names(self, write):
        flags = write("store: redis://file\nservice: file\nupstreams: {app: {url: http://a}}")
        environ = {
            "REDIS_URL": "redis://known",
            "SIDECAR_STORE": "redis://own",
            "OTEL_SERVICE_NAME": "known",
            "DATABASE_URL": "postgresql://db/audit",
            "SIDECAR_ADMIN_TOKEN": "12345",
        }
        settings = load(flags, environ).settings
        assert (settings.store, settings.service) == ("redis://own", "known")
        assert (settings.database, settings.admin.token) == ("postgresql://db/audit", "12345")

    def test_the_environment_reaches_into_the_files_lists_by_name(self, write):
        flags = write(CONTRACT)
        environ = {
            "SIDECAR_ROUTES__CREATE_REQUEST__IDEMPOTENCY__TTL": "1h",
            "SIDECAR_LISTENERS__1__BIND": "127.0.0.1:82",
            "SIDECAR_UPSTREAMS__PAYMENTS__TIMEOUTS__TOTAL": "none",
        }
        settings = load(flags, environ).settings
        assert settings.routes[0].idempotency.ttl == 3600
        assert settings.routes[0].idempotency.required
        assert settings.listeners[1].bind.port == 82
        assert settings.upstreams["payments"].timeouts.total is None

    def test_the_upstream_flag_takes_the_place_of_the_only_upstreams_hosts(self, write):
        flags = write("upstreams: {orders: {urls: [http://a, http://b], host: rewrite}}")
        settings = load(Flags(config=flags.config, upstream="http://c"), {}).settings
        assert [str(host) for host in settings.upstreams["orders"].hosts] == ["http://c:80"]
        assert settings.upstreams["orders"].host == "rewrite"

    def test_the_upstream_flag_among_several_means_app(self, write):
        flags = write(CONTRACT)
        settings = load(Flags(config=flags.config, upstream="http://c"), {}).settings
        assert str(settings.upstreams["app"].hosts[0]) == "http://c:80"

    def test_the_file_may_be_named_by_the_environment(self, write):
        loaded = load(Flags(), {"SIDECAR_CONFIG": write(CONTRACT).config})
        assert loaded.settings.service == "requests-service"
        assert loaded.file is not None

    def test_where_each_value_was_written(self, write):
        flags = write("workers: 1\nupstreams:\n  app:\n    url: http://a\n")
        loaded = load(Flags(config=flags.config, store="redis://x"), {"SIDECAR_LOG__LEVEL": "debug"})
        where = loaded.sources.written_at
        assert where(("upstreams", "app", "url")) == f"{flags.config}:4"
        assert (where(("log", "level")), where(("store",)), where(("limits",))) == (
            "SIDECAR_LOG__LEVEL",
            "--store",
            "",
        )


class TestInheritance:
    def test_routes_take_what_they_do_not_say_from_the_top(self, write):
        settings = load(
            write(
                "store_timeout: 300ms\n"
                "idempotency: {ttl: 1h, lease: 5s}\n"
                "upstreams: {app: {url: http://a}}\n"
                "routes:\n"
                "  - {name: a, upstream: app, match: {path: /a}, idempotency: {ttl: 2h}}\n"
                "  - {name: b, upstream: app, match: {path: /b}, idempotency: on}\n"
                "  - {name: c, upstream: app, match: {path: /c}, idempotency: off}\n"
                "  - {name: d, upstream: app, idempotency: {store_timeout: 2s}}\n"
            ),
            {},
        ).settings
        a, b, c, d = (route.idempotency for route in settings.routes)
        assert (a.ttl, a.lease, a.store_timeout) == (7200, 5, 0.3)
        assert (b.ttl, b.lease) == (3600, 5)
        assert c is None
        assert (d.ttl, d.store_timeout) == (3600, 2)

    def test_a_route_may_be_on_where_the_top_is_off(self, write):
        settings = load(
            write(
                "idempotency: off\n"
                "upstreams: {app: {url: http://a}}\n"
                "routes:\n"
                "  - {name: a, upstream: app, match: {path: /a}, idempotency: {ttl: 2h}}\n"
                "  - {name: b, upstream: app, match: {path: /b}, idempotency: on}\n"
                "  - {name: c, upstream: app}\n"
            ),
            {},
        ).settings
        a, b, c = (route.idempotency for route in settings.routes)
        assert (a.ttl, b, c) == (7200, Idempotency(), None)

    def test_listeners_take_correlation_from_the_top(self, write):
        settings = load(
            write(
                "correlation: {header: X-Trace}\n"
                "listeners:\n"
                "  - {name: a, bind: 127.0.0.1:1}\n"
                "  - {name: b, bind: 127.0.0.1:2, correlation: {inbound: regenerate}}\n"
                "upstreams: {app: {url: http://a}}\n"
            ),
            {},
        ).settings
        a, b = (listener.correlation for listener in settings.listeners)
        assert (a.header, a.inbound) == ("X-Trace", "trust")
        assert (b.header, b.inbound) == ("X-Correlation-ID", "regenerate")


class TestTheContractsExample:
    def test_it_is_valid_with_nothing_set(self, write):
        settings = load(write(CONTRACT), {}).settings
        assert settings.admin.token is None
        assert settings.limits.body is None
        assert settings.upstreams["app"].timeouts.per_try is None
        assert settings.routes[0].idempotency.fingerprint == "json"

    def test_it_says_nothing_but_the_defaults(self, write):
        settings = load(write(CONTRACT), {}).settings
        default = Settings()
        assert settings.upstreams["app"] == load(UPSTREAM, {}).settings.upstreams["app"]
        for name in (
            "limits",
            "correlation",
            "tracing",
            "drain_timeout",
            "spool",
            "admin",
            "workers",
            "store",
        ):
            assert getattr(settings, name) == getattr(default, name)

    def test_the_shipped_file_is_valid(self):
        file = Path(__file__).parents[3] / "config" / "sidecar.yaml"
        assert load(Flags(config=str(file)), {}).settings.routes[0].name == "create-request"


class TestMisnamedVariables:
    def test_a_near_miss_is_a_mistake(self):
        assert mistakes_of(UPSTREAM, {"SIDECAR_WORKRES": "2", "SIDECAR_UPSTREAM__APP__URL": "x"}) == [
            "SIDECAR_UPSTREAM__APP__URL: unknown setting: did you mean SIDECAR_UPSTREAMS__APP__URL?",
            "SIDECAR_WORKRES: unknown setting: did you mean SIDECAR_WORKERS?",
        ]

    def test_a_nested_unknown_is_a_mistake(self):
        assert mistakes_of(UPSTREAM, {"SIDECAR_FNORD__X": "2"}) == ["SIDECAR_FNORD__X: unknown setting"]

    def test_an_unknown_key_on_the_way_is_not_laid_at_the_door_of_the_file(self, write):
        flags = write("upstreams:\n  app: {url: http://127.0.0.1:3000}\n")
        name = "SIDECAR_UPSTREAMS__APP__TIMEOUT__CONNECT"
        assert mistakes_of(flags, {name: "1s"}) == [
            f"{name}: upstreams.app.timeout: unknown key: did you mean timeouts?"
        ]

    def test_an_unknown_key_further_down_is_a_mistake(self):
        assert mistakes_of(UPSTREAM, {"SIDECAR_LOG__LEVLE": "debug"}) == [
            "SIDECAR_LOG__LEVLE: log.levle: unknown key: did you mean level?"
        ]

    def test_what_orchestrators_set_is_left_alone(self):
        environ = {
            "SIDECAR_SERVICE_HOST": "10.0.0.1",
            "SIDECAR_PORT": "tcp://10.0.0.1:80",
            "SIDECAR_STORE": "",
        }
        assert load(UPSTREAM, environ).settings.store == "memory://"

    def test_an_item_that_is_not_there(self):
        known = "names no item: expected a position from 0 to 1 or one of ingress"
        environ = {"SIDECAR_LISTENERS__EGRESS__BIND": "x", "SIDECAR_LISTENERS__5__BIND": "x"}
        assert mistakes_of(UPSTREAM, environ) == [
            f"SIDECAR_LISTENERS__5__BIND: listeners.5.bind: 5 {known}",
            f"SIDECAR_LISTENERS__EGRESS__BIND: listeners.egress.bind: EGRESS {known}",
        ]

    def test_a_value_that_is_no_yaml(self):
        (mistake,) = mistakes_of(UPSTREAM, {"SIDECAR_LISTENERS": "[{name: a"})
        assert mistake.startswith("SIDECAR_LISTENERS: listeners: not valid YAML: ")

    def test_a_missing_key_beside_a_variable_names_the_variable(self):
        assert mistakes_of(UPSTREAM, {"SIDECAR_ROUTES__0__NAME": "a"}) == [
            "SIDECAR_ROUTES__0__NAME: routes.0.upstream: is missing"
        ]

    def test_open_telemetry_variables_are_read_too(self):
        (mistake,) = mistakes_of(UPSTREAM, {"OTEL_TRACES_SAMPLER": "sometimes"})
        assert mistake.startswith("environment: OTEL_TRACES_SAMPLER is always_on, always_off or traceidratio")

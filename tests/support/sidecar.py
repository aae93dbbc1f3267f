"""The real ``sidecar run`` process, its configuration file, its logs and its metrics."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.client import HTTP
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.raw import Client
from tests.support.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import httpx

Config = dict[str, Any]
LogLine = dict[str, Any]

# What the sidecar reads from the environment; a test starts without any of it.
_OUR_VARIABLES = ("SIDECAR_", "OTEL_", "REDIS_URL", "DATABASE_URL")


def config_for(upstream_url: str, **sections: Any) -> Config:
    """A configuration that sends everything to one upstream, called ``app``, with further ``sections``."""
    return {
        "upstreams": {"app": {"url": upstream_url}},
        "routes": [{"name": "default", "match": {"prefix": "/"}, "upstream": "app"}],
        **sections,
    }


class Sidecar:
    """One running sidecar.

    Listeners and the admin port that the configuration does not name get free ports. Closing it checks that
    the process was alive until it was told to stop, and that it never met an error that it had not foreseen.
    """

    def __init__(
        self,
        config: Config | None,
        folder: Path,
        *,
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        port: int = 0,
        expect_ready: bool = True,
    ) -> None:
        self.file = folder / "sidecar.yaml"
        self.port, self.admin_port = port or free_port(), free_port()
        self.config = config
        command = [sys.executable, "-m", "sidecar", "run", *arguments]
        if config is None and "--config" not in arguments:
            command += ["--listen", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin_port}"]
        elif config is not None:
            self.write(config)
            command += ["--config", str(self.file)]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OUR_VARIABLES)}
        self.process = Process(
            command, env={**inherited, **build_environment(), **(env or {})}, name="sidecar", cwd=folder
        )
        if expect_ready:
            self.wait_ready()

    @property
    def address(self) -> tuple[str, int]:
        """Where the first listener is."""
        return ("127.0.0.1", self.port)

    @property
    def url(self) -> str:
        """Base URL of the first listener."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin(self) -> str:
        """Base URL of the admin port."""
        return f"http://127.0.0.1:{self.admin_port}"

    def client(self, **options: Any) -> Client:
        """A raw connection to the first listener."""
        return Client(self.address, **options)

    # --- configuration

    def write(self, config: Config) -> None:
        """Put a configuration into the file, as :meth:`write_text` does."""
        self.config = self._placed(config)
        self.write_text(yaml.safe_dump(self.config, sort_keys=False))

    def write_text(self, text: str) -> None:
        """Put any text into the file, in one step as editors do (write beside it, rename)."""
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.replace(self.file)

    def _placed(self, config: Config) -> Config:
        listener = {"name": "ingress", "bind": f"127.0.0.1:{self.port}"}
        return {
            "listeners": [listener],
            "admin": {"bind": f"127.0.0.1:{self.admin_port}"},
            "spool": {"dir": str(self.file.parent / "spool")},
            **config,
        }

    def reload(self) -> None:
        """SIGHUP, and wait until the file has been taken over or refused."""
        before = self._reloads()
        self.process.signal(signal.SIGHUP)
        eventually(lambda: self._reloads() > before, "the configuration is reloaded or refused", every=0.03)

    def _reloads(self) -> float:
        lines = self.get("/metrics").text.splitlines()
        return sum(
            float(line.split()[1])
            for line in lines
            if line.startswith(("config_reloads_total ", "config_reload_failures_total "))
        )

    # --- life

    def wait_ready(self, within: float = PATIENCE) -> None:
        """Wait until ``/readyz`` says 200."""
        self.process.wait_listening("127.0.0.1", self.admin_port, within)
        ready = "the sidecar is ready"
        eventually(lambda: self.get("/readyz").status_code == 200, ready, within=within, every=0.02)

    def stop(self, within: float = PATIENCE) -> int:
        """SIGTERM; the exit code."""
        return self.process.stop(within)

    def close(self) -> None:
        """Stop it and check that nothing went wrong that no test asked for."""
        code = self.process.exit_code
        alive = code is None
        code = self.process.stop() if alive else code
        output = self.process.output()
        where = output.find("Traceback")
        assert where < 0, output[max(0, where - 1000) : where + 4000]
        assert code == 0, (
            f"sidecar ended with {code}, {'when stopped' if alive else 'by itself'}:\n{output[-3000:]}"
        )

    def resident_bytes(self) -> int:
        """Its memory, workers included."""
        return self.process.resident_bytes()

    # --- admin

    def get(self, path: str, **options: Any) -> httpx.Response:
        """GET on the admin port."""
        return self.ask("GET", path, **options)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Any request to the admin port."""
        return HTTP.request(method, self.admin + path, **options)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples with this name and these labels; 0 where there is none."""
        families = text_string_to_metric_families(self.get("/metrics").text)
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    # --- logs

    def logs(self, start: int = 0) -> list[LogLine]:
        """The log lines so far, from number ``start`` on; each must be one JSON object."""
        return [json.loads(line) for line in self.process.stdout.all(start)]

    def wait_log(self, wanted: Callable[[LogLine], bool], what: str, *, start: int = 0) -> LogLine:
        """The first log line that is ``wanted``, now or soon."""
        line = self.process.stdout.wait(lambda text: wanted(json.loads(text)), what, start=start)
        return json.loads(line)

    def access_line(self, **fields: Any) -> LogLine:
        """The first access line with these fields."""

        def wanted(line: LogLine) -> bool:
            return "status" in line and "method" in line and fields.items() <= line.items()

        return self.wait_log(wanted, f"an access line with {fields}")

    def access_lines(self, **fields: Any) -> list[LogLine]:
        """The access lines so far with these fields."""
        return [
            it for it in self.logs() if "status" in it and "method" in it and fields.items() <= it.items()
        ]


UUID7 = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
"""RFC 9562, section 5.7."""


def build_environment() -> dict[str, str]:
    """What makes a child process run the sidecar in ``SIDECAR_BUILD``, where that is set, not the sources."""
    build = os.environ.get("SIDECAR_BUILD")
    return {"PYTHONPATH": str(Path(build).resolve()), "PYTHONSAFEPATH": "1"} if build else {}

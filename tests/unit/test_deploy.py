"""What ``deploy/`` asks of Prometheus is what the sidecar exposes."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from sidecar.metrics import Metrics, Registry
from sidecar.metrics.process import define_process_metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
RULES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))

SEED_QUERIES = [
    "sum(rate(http_requests_total[5m])) by (service)",
    'sum(rate(http_requests_total{status_code=~"5.."}[5m])) / sum(rate(http_requests_total[5m]))',
    "histogram_quantile(0.95, rate(http_request_duration_ms_bucket[5m]))",
    'circuit_breaker_state{service="requests"}',
]

# What Prometheus adds to every series by itself.
TARGET_LABELS = {"job", "instance"}


def exposed():
    """The labels of every series name."""
    registry = Registry(service="requests")
    Metrics(registry, version="1")
    define_process_metrics(registry)
    names = {}
    for family in registry.snapshot():
        about = family.description
        labels = {*about.labels, *TARGET_LABELS}
        if about.kind == "histogram":
            names |= {f"{about.name}_bucket": labels | {"le"}, f"{about.name}_count": labels}
        else:
            names[about.name] = labels
    return names


def recorded():
    """The labels of every recording rule, from its outermost ``sum by``."""
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules" / "recording.yml").read_text())
    found = {}
    for group in rules["groups"]:
        for rule in group["rules"]:
            by = re.search(r"by \(([^)]*)\)", rule["expr"])
            found[rule["record"]] = {label.strip() for label in by[1].split(",")} - {"le"}
    return found


def expressions(path):
    if path.suffix == ".json":
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            yield from (target["expr"] for target in panel.get("targets", ()))
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                yield variable["query"]["query"]
    else:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from (rule["expr"] for rule in group["rules"])


ALL_EXPRESSIONS = [
    pytest.param(expression, id=f"{path.stem}-{number}")
    for path in (*DASHBOARDS, *RULES)
    for number, expression in enumerate(expressions(path))
] + [pytest.param(expression, id=f"seed-{number}") for number, expression in enumerate(SEED_QUERIES)]

SYNTAX = {
    *("and", "offset", "or"),
    *("count", "histogram_quantile", "increase", "label_values", "max", "rate", "sum", "time"),
}


class Query:
    """What a PromQL expression names; enough of a parser for the expressions of this folder."""

    def __init__(self, expression):
        bare = re.sub(r"\[[^]]*\]", "", re.sub(r'"[^"]*"', "", expression))
        self.groups = [set(re.findall(r"\w+", group)) for group in re.findall(r"by \(([^)]*)\)", bare)]
        bare = re.sub(r"by \([^)]*\)", "", bare)
        self.selectors = {
            name: set(re.findall(r"(\w+)\s*[=!]", labels))
            for name, labels in re.findall(r"([\w:]+)\{(.*?)\}", bare)
        }
        words = set(re.findall(r"[a-z_][\w:]+", re.sub(r"\{.*?\}", "", bare)))
        self.names = words - SYNTAX - {"service", "instance"}


@pytest.mark.parametrize("expression", ALL_EXPRESSIONS)
def test_every_query_names_series_and_labels_that_exist(expression):
    known = exposed() | recorded() | {"up": TARGET_LABELS}
    query = Query(expression)
    assert query.names
    assert query.names <= known.keys()
    for name, labels in query.selectors.items():
        assert labels <= known[name]
    for labels in query.groups:
        assert any(labels <= known[name] for name in query.names)


@pytest.fixture
def generator(monkeypatch):
    spec = importlib.util.spec_from_file_location("dashboards", DEPLOY / "grafana" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "dashboards", module)  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_the_dashboards_are_what_the_generator_writes(generator):
    written = {path.stem: path.read_text() for path in DASHBOARDS}
    assert written == {board.uid: generator.rendered(board) for board in generator.ALL}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_do_not_overlap(path):
    cells = set()
    for panel in json.loads(path.read_text())["panels"]:
        at = panel["gridPos"]
        own = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert not own & cells
        assert at["x"] + at["w"] <= 24
        cells |= own


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_alerts_say_what_is_wrong_and_what_to_do(path):
    for group in yaml.safe_load(path.read_text())["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                assert rule["labels"]["severity"] in {"page", "ticket"}
                assert rule["annotations"].keys() == {"summary", "description"}


def test_the_other_files_are_well_formed():
    for path in DEPLOY.rglob("*.y*ml"):
        assert yaml.safe_load(path.read_text()), path


def test_compose_mounts_only_files_that_exist():
    compose = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())
    for service in compose["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), source
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")

"""The description describes the calls that there are, and is one by OpenAPI's own rules."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from sidecar.admin.calls import CALLS
from sidecar.admin.openapi import document
from sidecar.admin.openapi.operations import OPERATIONS
from sidecar.admin.openapi.schemas import LEVELS, MODES, STATES
from sidecar.breaker.states import Mode
from sidecar.idempotency.core import State
from sidecar.log import LEVELS as KNOWN_LEVELS

HEALTH = {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics")}


def test_it_is_valid():
    errors = list(OpenAPIV31SpecValidator(document()).iter_errors())
    assert errors == []


def test_every_call_is_described_and_nothing_else():
    assert {(call.method, call.path) for call in CALLS} | HEALTH == set(OPERATIONS)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.method} {call.path}")
def test_every_call_has_a_handler(call):
    module, _, name = call.handler.partition(".")
    handler = getattr(import_module(f"sidecar.admin.{module}"), name)
    assert inspect.iscoroutinefunction(handler)


def test_whatever_is_no_reading_is_told_as_a_change():
    readings = {"/admin/idempotency/find", "/events/{event_type}"}
    for call in CALLS:
        assert call.is_change == (call.method != "GET" and call.path not in readings), call


def test_names_of_operations_are_unique():
    names = [operation.name for operation in OPERATIONS.values()]
    assert len(names) == len(set(names))


def test_choices_are_those_of_the_code():
    assert list(State.__members__) == STATES
    assert [mode.value for mode in Mode] == MODES
    assert list(KNOWN_LEVELS) == LEVELS

"""``GET /openapi.json``: the admin port's calls, described by OpenAPI 3.1."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from sidecar.admin.answers import json_answer
from sidecar.admin.calls import CALLS
from sidecar.admin.openapi.operations import OPERATIONS
from sidecar.admin.openapi.schemas import SCHEMAS
from sidecar.admin.reading import query_of
from sidecar.admin.security import PUBLIC
from sidecar.version import VERSION

if TYPE_CHECKING:
    from aiohttp import web

    from sidecar.admin.control import Control
    from sidecar.admin.openapi.operations import Operation

_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_HEALTH: Final = [("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics")]
_REASONS: Final = {
    "400": "The request is malformed; the message says what was expected.",
    "401": "The token is missing or another one.",
    "403": "The call comes from a page of another origin, or names a host that this port is not.",
    "404": "There is no such thing.",
    "409": "The thing is in a state that does not allow it.",
    "413": "The body is too large.",
    "422": "The configuration has mistakes, listed in `error.mistakes`.",
    "502": "The upstream did not take it.",
    "503": "The store cannot be used, or there are too many streams.",
}


async def show(request: web.Request, _control: Control) -> web.Response:
    """``GET /openapi.json``."""
    query_of(request)
    return json_answer(document())


def document() -> dict[str, Any]:
    """The description of every call that there is."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path in [*_HEALTH, *((call.method, call.path) for call in CALLS)]:
        paths.setdefault(path, {})[method.lower()] = _describe(method, path, OPERATIONS[method, path])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sidecar admin API",
            "version": VERSION,
            "description": "For operators: status, breakers, idempotency records, dead letters, events.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {}],
        "tags": [{"name": tag} for tag in dict.fromkeys(it.tag for it in OPERATIONS.values())],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`admin.token`, where it is set.",
                }
            },
        },
    }


def _describe(method: str, path: str, operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": _responses(path, operation),
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(path)
    ]
    parameters += [
        {"name": name, "in": "query", "schema": schema} for name, schema in operation.query.items()
    ]
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        required = bool(operation.body.get("required"))
        content = {kind: {"schema": operation.body} for kind in operation.accepts}
        described["requestBody"] = {"required": required, "content": content}
    if path in PUBLIC:
        described["security"] = []
    elif method != "GET":
        described["description"] = "From a browser: same origin, and `Content-Type: application/json`."
    return described


def _responses(path: str, operation: Operation) -> dict[str, Any]:
    responses: dict[str, Any] = {
        str(operation.status): {
            "description": operation.gives,
            "content": {operation.kind: {"schema": operation.answer}},
        }
    }
    failures = list(operation.failures)
    if path not in PUBLIC:
        failures += ["400", "401", "403"]
    for status in sorted(failures):
        responses[status] = {
            "description": _REASONS[status],
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
    return responses

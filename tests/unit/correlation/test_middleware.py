"""CorrelationMiddleware around a Starlette application."""

from __future__ import annotations

import uuid

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient

from sidecar.correlation import current_correlation_id
from sidecar.correlation.middleware import CorrelationMiddleware


async def show(request):
    return JSONResponse(
        {
            "current": current_correlation_id(),
            "header": request.headers.getlist("x-correlation-id"),
            "request": request.headers["x-request-id"],
        }
    )


async def own(_request):
    return PlainTextResponse("x", headers={"X-Correlation-ID": "the application's"})


async def talk(websocket):
    await websocket.accept()
    await websocket.send_text(current_correlation_id())
    await websocket.close()


def client(**options):
    routes = [Route("/", show), Route("/own", own), WebSocketRoute("/ws", talk)]
    return TestClient(CorrelationMiddleware(Starlette(routes=routes), **options))


def test_a_clients_id_is_seen_everywhere():
    response = client().get("/", headers={"X-Correlation-ID": "abc", "X-Request-ID": "r1"})
    assert response.json() == {"current": "abc", "header": ["abc"], "request": "r1"}
    assert response.headers.get_list("x-correlation-id") == ["abc"]
    assert current_correlation_id() == ""


@pytest.mark.parametrize("sent", [{}, {"X-Correlation-ID": "not valid!"}, {"X-Correlation-ID": "x" * 500}])
def test_otherwise_a_fresh_one_is(sent):
    response = client().get("/", headers=sent)
    made = response.headers["x-correlation-id"]
    assert uuid.UUID(made).version == 7
    assert response.json()["current"] == made
    assert response.json()["header"] == [made]
    assert uuid.UUID(response.json()["request"]).version == 7


def test_strangers_are_not_believed():
    response = client(trust=False).get("/", headers={"X-Correlation-ID": "abc"})
    assert response.json()["current"] != "abc"


def test_the_applications_own_header_gives_way():
    response = client().get("/own", headers={"X-Correlation-ID": "abc"})
    assert response.headers.get_list("x-correlation-id") == ["abc"]


def test_another_field_may_carry_it():
    response = client(header="X-Trace").get("/", headers={"X-Trace": "abc"})
    assert response.headers["x-trace"] == "abc"
    assert response.json()["current"] == "abc"


def test_websockets_have_one_too():
    with client().websocket_connect("/ws", headers={"X-Correlation-ID": "abc"}) as socket:
        assert socket.receive_text() == "abc"


def test_the_lifespan_passes_through():
    with client() as running:
        assert running.get("/").status_code == 200

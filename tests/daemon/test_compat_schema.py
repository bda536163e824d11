"""The endpoints do what /openapi.json says, for requests that fit it and for those that do not."""

from __future__ import annotations

import asyncio
import threading

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from serving import TOKEN, serving

from model_runtime.daemon.scheduler import Scheduler
from model_runtime.daemon.server import Daemon


@pytest.fixture(scope="module")
def address():
    """A daemon in a thread of its own: schemathesis calls it as a program from elsewhere would."""
    ready, leave, found = threading.Event(), asyncio.Event(), {}

    async def serve():
        async with serving() as (_, port):
            found.update(port=port, loop=asyncio.get_running_loop())
            ready.set()
            await leave.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(30)
    yield f"http://127.0.0.1:{found['port']}"
    found["loop"].call_soon_threadsafe(leave.set)
    thread.join(30)


@pytest.fixture(scope="module")
def described(address):
    """The description, as the daemon gives it."""
    return schemathesis.openapi.from_url(f"{address}/openapi.json")


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("path", ["/infill", "/completion", "/v1/completions"])
def test_requests_are_served_or_refused_as_described(described, path, mode):
    exercise(described[path]["post"], mode)


@pytest.mark.parametrize("path", ["/v1/models", "/props", "/metrics", "/health", "/openapi.json"])
def test_what_can_be_read_is_as_described(described, path):
    exercise(described[path]["get"], GenerationMode.POSITIVE)


def test_nothing_is_left_out(described):
    paths = {operation.ok().path for operation in described.get_all_operations()}  # all but the document itself
    assert paths == {route.path for route in Daemon(Scheduler(), TOKEN).app().routes} - {"/", "/openapi.json"}


def exercise(operation, mode):
    """Send some requests, well-formed or not, and check each answer against the description."""

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=20, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    def check(case):
        case.call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"})

    check()

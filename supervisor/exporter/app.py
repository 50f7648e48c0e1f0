"""The routes of the exporter, as an ASGI application. Made by `supervisor.roles.exporter`, served by `serve`.

Not the verdicts (`fleet`) and not the questions (`probe`): each route puts one of them into a response. No route waits
for Redis on the event loop; /livez does not ask it at all. Errors are JSON; answers are never cached.
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from supervisor.exporter import page, readings, stream
from supervisor.exporter.api import Api
from supervisor.exporter.hosts import Hosts
from supervisor.exporter.live import Live
from supervisor.exporter.probe import Probe
from supervisor.exporter.watch import Watch
from supervisor.metrics import Exposition

SCRAPE_KEEP = 0.2
"""Seconds a rendered scrape is given to others who ask: a flood of scrapers costs no more than five renderings a second."""

_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


class Exporter:
    """The handlers, with what they look at."""

    def __init__(self, watch: Watch, probe: Probe, exposition: Exposition, version: str, live: Live, api: Api) -> None:
        self._watch, self._probe, self._exposition, self.live, self._api = watch, probe, exposition, live, api
        self._build = (version, platform.python_version())
        self._thread = ThreadPoolExecutor(1, "scrape")
        self._scraping = asyncio.Lock()
        self._scrapes: dict[str, tuple[float, bytes, str]] = {}

    def app(self, hosts: Hosts) -> ASGIApp:
        routes = [
            Route("/", self.index),
            Route("/metrics", self.metrics),
            Route("/livez", self.livez),
            Route("/healthz", self.healthz),
            Route("/readyz", self.healthz),
            Route("/stats", self.stats),
            Route("/api/live", self.follow),
            Route("/api/jobs", self._api.jobs),
            Route("/api/job", self._api.job),
            Route("/api/{action:path}", self._api.act, methods=["POST"]),
        ]
        app = Starlette(routes=routes, exception_handlers={HTTPException: _refused, Exception: _broken})
        app.router.redirect_slashes = False  # a redirect would repeat the client's Host header
        return _Guard(app, hosts)

    async def warm(self) -> None:
        """Import what the first scrape needs, in its thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._exposition.warm)

    async def index(self, _: Request) -> Response:
        return HTMLResponse(page.HTML, headers={"content-security-policy": page.POLICY})

    async def livez(self, _: Request) -> Response:
        return _verdict(self._watch.not_live(), self._watch)

    async def healthz(self, _: Request) -> Response:
        answer = await self._probe.answer()
        return _verdict(self._watch.not_ready(answer.error), self._watch)

    async def stats(self, _: Request) -> Response:
        answer = await self._probe.answer()
        if answer.stats is None:
            return JSONResponse({"error": answer.error}, 503)
        return JSONResponse(answer.stats)

    async def metrics(self, request: Request) -> Response:
        openmetrics = "application/openmetrics-text" in request.headers.get("accept", "")
        accept = "application/openmetrics-text; version=1.0.0" if openmetrics else "text/plain"
        async with self._scraping:
            found = self._scrapes.get(accept)
            if found is None or time.monotonic() - found[0] > SCRAPE_KEEP:
                found = self._scrapes[accept] = (time.monotonic(), *await self._scrape(accept))
        return Response(found[1], headers={"content-type": found[2]})

    async def _scrape(self, accept: str) -> tuple[bytes, str]:
        answer, watch = await self._probe.answer(), self._watch
        looked_up = [
            *readings.of_redis(answer.stats, answer.health),
            *readings.of_fleet(watch.status, watch.workers(), watch.busy()),
            readings.of_build(*self._build),
        ]
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._exposition.render, looked_up, watch.alive(), accept)

    async def follow(self, _: Request) -> Response:
        """Server-sent events for the dashboard."""
        if self.live.watchers >= stream.MOST:
            return _error(503, f"{stream.MOST} watch already: close one of the pages", {"retry-after": "10"})
        return stream.Stream(self.live)  # type: ignore[return-value]  # an ASGI application, as a Response is


class _Guard:
    """Before the routes: refuses Host names that are not ours. After them: headers that hold for every answer."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], hosts: Hosts) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        given = [value for name, value in scope.get("headers", ()) if name == b"host"]
        if len(given) == 1 and self._hosts.allows(given[0].decode("latin-1")):
            await self._app(scope, receive, send_guarded)
        else:
            refusal = _error(421, "this Host is not one of ours: add it to http.hosts if it should be")
            await refusal(scope, receive, send_guarded)


def _verdict(reasons: list[str], watch: Watch) -> Response:
    status = watch.status
    body: dict[str, Any] = {"status": "unhealthy" if reasons else "ok", "reasons": reasons}
    if status is not None:
        body |= {"ready": status.ready, "desired": status.desired, "generation": status.generation}
    return JSONResponse(body, 503 if reasons else 200)


def _error(code: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": text}, code, headers=headers)


async def _refused(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return _error(error.status_code, error.detail.lower(), dict(error.headers or {}))


async def _broken(_: Request, error: Exception) -> Response:
    return _error(500, f"a bug in the exporter, {type(error).__name__}: its log has the traceback")

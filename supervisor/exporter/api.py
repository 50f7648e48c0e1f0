"""The routes under /api/: who may see jobs, who may change them, and the log line of each change. Used by `supervisor.exporter.app`.

Not what is done (`actions`, `jobs`) and not where (`desk`). Changes need the token, always, and come from no other origin;
jobs, which may hold personal data, need it too where there is one, and are shown on this machine alone where there is none.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from typing import Any
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from jobqueue.errors import JobQueueError, ServerRefused, Unavailable
from supervisor import logs
from supervisor.exporter import jobs
from supervisor.exporter.actions import ACTIONS, Done, Order
from supervisor.exporter.desk import Busy, Desk

MOST_BODY = 1 << 20
WRONG_TOKEN_WAITS = 0.25
PAGE = 500
OFF = "operator actions are off: set http.token to switch them on"
_order = msgspec.json.Decoder(Order).decode


class Refused(Exception):
    """Not allowed, or not understood: the answer."""

    def __init__(self, code: int, text: str, headers: dict[str, str] | None = None) -> None:
        self.response = JSONResponse({"error": text}, code, headers=headers)
        super().__init__(text)


class Api:
    """Jobs and actions. `token` empty: no actions."""

    def __init__(self, desk: Desk, token: str) -> None:
        self._desk, self._token = desk, token
        self._log = logs.get_logger("exporter")

    async def jobs(self, request: Request) -> Response:
        """GET: a page of jobs."""
        return await self._answer(self._jobs, request)

    async def job(self, request: Request) -> Response:
        """GET: one job."""
        return await self._answer(self._job, request)

    async def act(self, request: Request) -> Response:
        """POST: an operator's action."""
        return await self._answer(self._act, request)

    async def _answer(self, work: Any, request: Request) -> Response:
        try:
            return Response(msgspec.json.encode(await work(request)), media_type="application/json")
        except Refused as refused:
            return refused.response
        except (Unavailable, ServerRefused, Busy) as error:
            return JSONResponse({"error": str(error)}, 503)
        except (JobQueueError, UnicodeError) as error:
            return JSONResponse({"error": str(error)}, 400)

    async def _jobs(self, request: Request) -> dict[str, Any]:
        await self._may_read(request)
        ask = request.query_params.get
        limit = ask("limit", "100")
        size = max(1, min(PAGE, int(limit))) if limit.isascii() and limit.isdigit() and len(limit) < 9 else 100
        asked = (ask("state", "dead"), ask("queue", ""), ask("where", ""), ask("cursor", ""), size)
        return await self._desk.do(lambda operator: jobs.listing(operator.browser, *asked))

    async def _job(self, request: Request) -> dict[str, Any]:
        await self._may_read(request)
        asked = tuple(request.query_params.get(name, "") for name in ("state", "queue", "ref"))
        found = await self._desk.do(lambda operator: jobs.details(operator.browser, *asked))
        if found is None:
            raise Refused(404, "it is not there any more")
        return found

    async def _act(self, request: Request) -> Done:
        if not self._token:
            raise Refused(404, OFF)
        _same_origin(request)
        await self._know(request)
        name = request.path_params["action"]
        action = ACTIONS.get(name)
        if action is None:
            raise Refused(404, f"no such action: there are {', '.join(ACTIONS)}")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refused(415, "needs Content-Type: application/json")
        try:
            order = _order(await _body(request))
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise Refused(400, f"the body is not what an action takes: {error}") from None
        try:
            done = await self._desk.do(lambda operator: action(operator, order))
        except JobQueueError as error:
            self._note(request, name, order, {"error": str(error)})
            raise
        self._note(request, name, order, done)
        return done

    def _note(self, request: Request, name: str, order: Order, done: Done) -> None:
        """Who did what: one line."""
        said = {key: value for key in ("queue", "id", "reason", "where") if (value := getattr(order, key))}
        said |= {key: done[key] for key in ("jobs", "ids", "result", "error") if key in done}
        if order.letters:
            said.setdefault("queue", ",".join(sorted({queue for queue, _ in order.letters})))
        client = request.client.host if request.client else "unix"
        self._log.info("operator action", action=name, by=order.by or "unnamed", client=client, **said)

    async def _may_read(self, request: Request) -> None:
        if self._token:
            await self._know(request)
        elif not _is_local(request):
            raise Refused(403, "jobs are shown on this machine alone unless http.token is set")

    async def _know(self, request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token.encode()):
            return
        if given:
            await asyncio.sleep(WRONG_TOKEN_WAITS)
        needs = "needs Authorization: Bearer with the token in http.token"
        raise Refused(401, needs, {"www-authenticate": "Bearer"})


def _same_origin(request: Request) -> None:
    origin = request.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if foreign or request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise Refused(403, "operator actions are not taken from other origins")


def _is_local(request: Request) -> bool:
    try:
        return request.client is None or ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BODY:
            raise Refused(413, f"the body is larger than {MOST_BODY} bytes")
    return body

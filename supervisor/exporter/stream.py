"""One watcher's connection: server-sent events until it leaves, is too slow, or the exporter stops. Made by `supervisor.exporter.app`.

Not what is said (`live`). The limit of 15 s that holds for answers does not hold here, so there are other ones: few
streams at once, and each event must be taken within 10 s.
"""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope, Send

from supervisor.exporter.live import Live

MARK = "jqd.stream"
"""In a connection's scope: `serve` leaves it alone."""
MOST = 32
TAKE = 10.0
HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]


class Stream:
    """An ASGI response."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._live.watchers += 1
        talking = asyncio.ensure_future(self._talk(scope, send))
        try:
            leaving = asyncio.ensure_future(_left(receive))
            done, waiting = await asyncio.wait([talking, leaving], return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            for task in done:
                if not isinstance(task.exception(), TimeoutError | None):
                    task.result()
        finally:
            talking.cancel()
            self._live.watchers -= 1

    async def _talk(self, scope: Scope, send: Send) -> None:
        scope[MARK] = True
        await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS]})
        number, event = await self._live.hello()
        event = b"retry: 2000\n" + event
        while True:
            body = {"type": "http.response.body", "body": event, "more_body": True}
            await asyncio.wait_for(send(body), TAKE)
            number, event = await self._live.next(number)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

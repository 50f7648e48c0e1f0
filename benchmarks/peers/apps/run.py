"""The producer's side, in a peer's own environment: `python run.py APP one|many|latency|slow N`, prints {"seconds": …} as JSON.

An app is a module with its tasks and `send(name, *args)`, and `send_many(n)` if the peer has bulk; plain functions, or coroutines with
`opened()`, an async context manager around them.
"""

import asyncio
import importlib
import inspect
import json
import random
import sys
import time


async def call(function, *args):
    answer = function(*args)
    return await answer if inspect.isawaitable(answer) else answer


async def act(app, action, n):
    await call(app.send, "noop") if action != "slow" else None  # connected, and what else comes first
    start = time.perf_counter()
    if action == "one":
        if inspect.iscoroutinefunction(app.send):
            for _ in range(n - 1):
                await app.send("noop")
        else:
            for _ in range(n - 1):
                app.send("noop")
    elif action == "many":
        for first in range(0, n - 1, 10_000):
            await call(app.send_many, min(10_000, n - 1 - first))
    elif action == "latency":
        for _ in range(n):
            await call(app.send, "latency", str(time.monotonic_ns()))
            time.sleep(0.02 + random.random() * 0.02)  # the slowest must be idle again
    else:
        await call(app.send, "slow")
    return time.perf_counter() - start


async def main():
    app, action, n = importlib.import_module(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    if action == "many" and not hasattr(app, "send_many"):
        print(json.dumps({"seconds": None}))
        return
    if hasattr(app, "opened"):
        async with app.opened():
            seconds = await act(app, action, n)
    else:
        seconds = await act(app, action, n)
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    asyncio.run(main())

"""The process `jqd: exporter HOST:PORT`: the only one with an HTTP server, so the only one that imports one.

Not what is served (`supervisor.exporter`). Started by the master, over descriptors 3 and 4. Leaves when told to, and
at once when the master is gone: what it could say would not be true any more.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from typing import TYPE_CHECKING, Any

from supervisor import logs, roles, settings
from supervisor.channel import Channel, ChannelClosed
from supervisor.metrics_dir import VARIABLE
from supervisor.scoreboard import LayoutMismatch, Scoreboard

if TYPE_CHECKING:
    from supervisor.exporter.app import Exporter
    from supervisor.exporter.serve import Server
    from supervisor.exporter.watch import Watch

BEAT = 0.5
LOOK = 1.0
WARM_AFTER = 1.0
"""Seconds: when this host starts, the processors belong to those who will run jobs."""


def main() -> int:
    """0 when told to stop or the master is gone, 78 if the address cannot be listened on."""
    signal.signal(signal.SIGTERM, lambda *_: roles.leave(0))
    for ignored in (signal.SIGHUP, signal.SIGINT):
        signal.signal(ignored, signal.SIG_IGN)
    start = roles.begin("jqd: exporter")
    return asyncio.run(_run(start))


async def _run(start: roles.Start) -> int:
    from supervisor.exporter.serve import CannotListen, PortTaken, Server, address, listen_soon
    from supervisor.exporter.watch import Watch

    config = settings.decode(start.settings)
    logs.configure("exporter", config.log, secrets=settings.secrets(config), generation=start.generation)
    try:
        watch, stop = Watch(config, Scoreboard.open(start.board_fd)), asyncio.Event()
    except LayoutMismatch as error:
        return roles.fail(start.channel, str(error))
    asyncio.get_running_loop().add_reader(start.channel.fileno(), _attend, start.channel, watch, stop)
    beating = asyncio.create_task(_beat(start.channel))
    if config.http.listen is None:
        return roles.fail(start.channel, "http.listen is null: there is nothing to listen on")
    host, port = settings.host_port(config.http.listen)
    try:
        sock = await _unless(stop, listen_soon(host, port))
    except (PortTaken, CannotListen) as error:
        return roles.fail(start.channel, str(error))
    if sock is None:
        return 0
    exporter = _exporter(config, watch, start)
    server = Server(exporter.app(_hosts(config, host)))
    serving = asyncio.create_task(server.serve([sock]))
    while not (server.started or serving.done()):
        await asyncio.sleep(0.001)
    roles.set_title(f"jqd: exporter {address(sock)}")
    _say(start.channel, {"kind": "ready", "listen": address(sock)})
    looking = asyncio.create_task(_look(watch, server, exporter))
    living = asyncio.create_task(exporter.live.run())
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([stopping, serving, beating, looking, living], return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()  # raises what ended it: a bug
    server.leave()
    await serving
    return 0 if stopping in done else roles.EXIT_BUG


def _exporter(config: settings.Settings, watch: Watch, start: roles.Start) -> Exporter:
    import jobqueue
    from supervisor.exporter.api import Api
    from supervisor.exporter.app import Exporter
    from supervisor.exporter.desk import Desk
    from supervisor.exporter.live import Live
    from supervisor.exporter.probe import Probe
    from supervisor.metrics import Exposition

    version, probe = str(getattr(jobqueue, "__version__", "unknown")), Probe(config)
    about = {
        "version": version,
        "hostname": os.uname().nodename,
        "host": start.host,
        "actions": bool(config.http.token),
    }
    live = Live(watch, probe, f"{start.host}.{start.nonce}", about)
    api = Api(Desk(config), config.http.token)
    return Exporter(watch, probe, Exposition(os.environ.get(VARIABLE, "")), version, live, api)


def _hosts(config: settings.Settings, host: str) -> Any:
    from supervisor.exporter.hosts import Hosts

    return Hosts.of(host, config.http.hosts, socket.gethostname())


async def _unless(stop: asyncio.Event, work: Any) -> Any:
    """What `work` gives, or None if the stop comes first."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
    if working.done():
        stopping.cancel()
        return working.result()
    working.cancel()
    return None


def _attend(channel: Channel, watch: Watch, stop: asyncio.Event) -> None:
    """Whatever the master says. Its silence for ever (EOF) ends this process on the spot."""
    for message, fds in channel.receive():
        for fd in fds:
            os.close(fd)
        match message.get("kind"):
            case "status":
                watch.heard(message)
            case "stop":
                stop.set()
    if channel.closed:
        roles.leave(0)


def _say(channel: Channel, message: dict[str, Any]) -> None:
    try:
        channel.send(message)
        channel.flush()
    except ChannelClosed:
        roles.leave(0)


async def _beat(channel: Channel) -> None:
    """Tell the master twice a second that this loop turns."""
    while True:
        _say(channel, {"kind": "alive"})
        await asyncio.sleep(BEAT)


async def _look(watch: Watch, server: Server, exporter: Exporter) -> None:
    """Once a second: sample the scoreboard, drop clients that are too slow."""
    await asyncio.sleep(WARM_AFTER)
    warming = asyncio.create_task(exporter.warm())
    while True:
        watch.tick()
        server.drop_slow()
        await asyncio.sleep(LOOK)
        if warming.done():
            warming.result()


if __name__ == "__main__":
    roles.run(main)

"""A Sentinel group of real processes: a master, a replica, three Sentinels, all on TCP ports of this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.ports import free_port
from tests.support.servers import Server
from tests.support.waiting import eventually

NAME = "mymaster"


class Group:
    """`servers`: by port. `sentinels`: ports. `url`: what jqd is given. `down_after`: ms until a silent master counts as gone."""

    def __init__(self, server_binary: str, sentinel_binary: str, folder: Path, *, down_after: int = 1000) -> None:
        self.servers: dict[int, Server] = {}
        self._clients: list[Any] = []
        first = free_port()
        for port in (first, free_port()):
            home = folder / str(port)
            home.mkdir(parents=True)
            options = ["--port", str(port), "--appendonly", "yes", "--repl-diskless-sync-delay", "0"]
            options += ["--replicaof", "127.0.0.1", str(first)] if port != first else []
            self.servers[port] = Server(server_binary, home, *options)
        self.first = first
        self._processes: list[subprocess.Popen[bytes]] = []
        self.sentinels = [free_port() for _ in range(3)]
        for port in self.sentinels:
            self._start_sentinel(sentinel_binary, folder / f"sentinel-{port}", port, down_after)
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        self.url = f"redis+sentinel://{hosts}/{NAME}"
        try:
            eventually(self._complete, 20, every=0.05, what="a group that knows itself")
        except BaseException:
            self.close()
            raise

    def _start_sentinel(self, binary: str, folder: Path, port: int, down_after: int) -> None:
        folder.mkdir()
        file = folder / "sentinel.conf"
        file.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\nlogfile {folder}/log\n"
            f"sentinel monitor {NAME} 127.0.0.1 {self.first} 2\n"
            f"sentinel down-after-milliseconds {NAME} {down_after}\n"
            f"sentinel failover-timeout {NAME} 5000\n"
        )
        command = [binary, str(file), "--sentinel"]
        self._processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))

    def ask(self, port: int, *command: Any) -> Any:
        with redis.Redis(port=port, socket_timeout=2, retry=Retry(NoBackoff(), 0)) as client:
            return client.execute_command(*command)

    def _complete(self) -> bool:
        """All Sentinels know the replica and each other."""
        try:
            for port in self.sentinels:
                state = self.ask(port, "SENTINEL", "MASTER", NAME)
                if int(state[b"num-other-sentinels"]) != 2 or int(state[b"num-slaves"]) != 1:
                    return False
            return self.servers[self.first].client().info("replication")["slave0"]["state"] == "online"
        except (redis.RedisError, KeyError):
            return False

    @property
    def master(self) -> Server:
        """Who the first Sentinel says it is."""
        return self.servers[self.port]

    @property
    def port(self) -> int:
        reply = self.ask(self.sentinels[0], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
        return int(reply[1])

    def promoted(self, before: int) -> bool:
        """Whether another server than `before` is a master by its own word."""
        other = next(port for port in self.servers if port != before)
        try:
            return bool(self.servers[other].client().execute_command("ROLE")[0] == b"master")
        except redis.ConnectionError:  # a server that changes its role ends its connections
            return False

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait(10)
        for server in self.servers.values():
            server.close()

"""A Cluster of real processes: masters and a replica for the first of them, on TCP ports of this machine. Started in about two seconds."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.crc import key_slot
from redis.retry import Retry

from tests.support.ports import free_port
from tests.support.servers import Server
from tests.support.waiting import eventually

SLOTS = 16_384


class Client(RedisCluster):
    """redis-py's own Cluster client, with nothing of ours in it; `keys` asks every master."""

    def keys(self, pattern: str = "*", **_: Any) -> list[bytes]:
        found = self.execute_command("KEYS", pattern, target_nodes=RedisCluster.PRIMARIES)
        return [key for keys in found.values() for key in keys] if isinstance(found, dict) else found


class Cluster:
    """`nodes`: by port, masters first (`masters`), then replicas. `down_after`: ms until a silent node counts as gone. `tls`: options of
    the server that name certificates; then each node has a port with TLS, too, which is what `url` names (`tls_ports`: by port)."""

    def __init__(
        self,
        binary: str,
        *,
        masters: int = 3,
        replicas: int = 1,
        down_after: int = 1500,
        options: tuple[str, ...] = (),
        tls: tuple[str, ...] = (),
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="jq-"))
        self._binary, self._down_after, self._options, self._tls = binary, down_after, options, tls
        self.tls_ports: dict[int, int] = {}
        self.nodes: dict[int, Server] = {}
        self._buses: dict[int, int] = {}
        self._clients: list[Any] = []
        try:
            self.masters = [self._start() for _ in range(masters)]
            self.replicas = [self._start() for _ in range(replicas)]
            self._join(masters)
        except BaseException:
            self.close()
            raise
        ports = [self.tls_ports.get(port, port) for port in self.masters]
        self.url = f"redis{'s' if tls else ''}+cluster://{','.join(f'127.0.0.1:{port}' for port in ports)}"

    def _start(self) -> int:
        """One more node that knows nobody."""
        port, bus = free_port(), free_port()
        home = self.folder / str(port)
        home.mkdir()
        more = ["--port", str(port), "--cluster-port", str(bus), "--cluster-enabled", "yes", "--bind", "127.0.0.1"]
        more += ["--cluster-node-timeout", str(self._down_after), "--cluster-require-full-coverage", "no"]
        more += ["--appendonly", "yes", "--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0"]
        if self._tls:
            self.tls_ports[port] = free_port()
            more += [
                "--tls-port",
                str(self.tls_ports[port]),
                "--tls-cluster",
                "yes",
                "--tls-replication",
                "yes",
                *self._tls,
            ]
        self.nodes[port], self._buses[port] = Server(self._binary, home, *more, *self._options), bus
        return port

    def _join(self, masters: int) -> None:
        share = SLOTS // masters
        for i, port in enumerate(self.masters):
            last = SLOTS - 1 if i == masters - 1 else (i + 1) * share - 1
            self.ask(port, "CLUSTER", "ADDSLOTSRANGE", i * share, last)
            self.ask(port, "CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for port in self.nodes:
            if port != self.masters[0]:
                self.meet(port)
        eventually(lambda: all(self._knows(port) == len(self.nodes) for port in self.nodes), 20, every=0.02)
        for i, port in enumerate(self.replicas):
            self.ask(port, "CLUSTER", "REPLICATE", self.id_of(self.masters[i]))
        eventually(self._whole, 20, every=0.02, what="a Cluster that is whole")

    def meet(self, port: int) -> None:
        self.ask(self.masters[0], "CLUSTER", "MEET", "127.0.0.1", port, self._buses[port])

    def _knows(self, port: int) -> int:
        lines = self.ask(port, "CLUSTER", "NODES").decode().splitlines()
        return len([line for line in lines if "handshake" not in line and "noaddr" not in line])

    def _whole(self) -> bool:
        for port in self.nodes:
            if "cluster_state:ok" not in self.ask(port, "CLUSTER", "INFO").decode():
                return False
            if len(self.ask(port, "CLUSTER", "SLOTS")) != len(self.masters):
                return False
        links = [self.nodes[port].client().info("replication")["master_link_status"] for port in self.replicas]
        return all(link == "up" for link in links)

    def ask(self, port: int, *command: Any) -> Any:
        with redis.Redis(port=port, socket_timeout=5, retry=Retry(NoBackoff(), 0)) as client:
            connection = client.connection_pool.get_connection()
            try:
                connection.send_command(*command)  # as it comes back, nothing parsed
                return connection.read_response()
            finally:
                client.connection_pool.release(connection)

    def id_of(self, port: int) -> str:
        found: bytes = self.ask(port, "CLUSTER", "MYID")
        return found.decode()

    def client(self) -> Client:
        nodes = [ClusterNode("127.0.0.1", port) for port in self.nodes]  # type: ignore[no-untyped-call]
        made = Client(startup_nodes=nodes, socket_timeout=5)
        self._clients.append(made)
        return made

    # ------------------------------------------------------------------ who has what

    def master_of(self, queue: str, asked: int | None = None) -> int:
        """Port of the node that serves this queue, by the word of `asked` (else of the first that answers)."""
        return self._served(self.slot_of(queue), asked)

    def master_of_key(self, key: str) -> int:
        return self._served(key_slot(key.encode()))

    def _served(self, slot: int, asked: int | None = None) -> int:
        for port in [asked] if asked else list(self.nodes):
            try:
                rows = self.ask(port, "CLUSTER", "SLOTS")
            except (redis.ConnectionError, redis.TimeoutError):
                continue
            for first, last, master, *_ in rows:
                if first <= slot <= last:
                    return int(master[1])
        raise AssertionError(f"nobody serves slot {slot}")

    @staticmethod
    def slot_of(queue: str) -> int:
        return key_slot(f"{{{queue}}}".encode())

    def queues_of(self, port: int, many: int = 1, but: Iterable[str] = ()) -> list[str]:
        """Names of queues that this node serves."""
        found: list[str] = []
        n = 0
        while len(found) < many:
            name = f"q{n}"
            n += 1
            if name not in but and self.master_of(name) == port:
                found.append(name)
        return found

    # ------------------------------------------------------------------ what happens to it

    def begin_move(self, queue: str, source: int, target: int) -> int:
        """The queue's slot is on its way, with all keys still at the source; its number."""
        slot = self.slot_of(queue)
        self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(target))
        return slot

    def move_keys(self, slot: int, source: int, target: int, many: int = 1000) -> int:
        """Up to so many keys; how many there were."""
        keys = self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, many)
        for key in keys:
            self.ask(source, "MIGRATE", "127.0.0.1", target, key, 0, 5000)
        return len(keys)

    def end_move(self, slot: int, target: int) -> None:
        owner = self.id_of(target)
        for port in [target, *(p for p in self.masters if p != target)]:
            self.ask(port, "CLUSTER", "SETSLOT", slot, "NODE", owner)

    def move(self, queue: str, source: int, target: int) -> None:
        """Reshard the queue's slot, as redis-cli does it."""
        slot = self.begin_move(queue, source, target)
        while self.move_keys(slot, source, target, 10):
            pass
        self.end_move(slot, target)

    def connections(self, name: str) -> int:
        """Of clients whose names begin so, at all nodes."""
        lists = [self.ask(port, "CLIENT", "LIST").decode() for port in self.nodes]
        return sum(f" name={name}" in line for text in lists for line in text.splitlines())

    def wait_replicated(self, port: int) -> None:
        """Until its replica has all it has."""

        def same() -> bool:
            info = self.nodes[port].client().info("replication")
            return info["connected_slaves"] == 1 and info["slave0"]["lag"] <= 1 and info["slave0"]["offset"] > 0

        eventually(same, 10)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        for server in self.nodes.values():
            server.close()
        shutil.rmtree(self.folder, ignore_errors=True)

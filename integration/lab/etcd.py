"""A real cluster of three etcds on one machine of the wire."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from integration.lab.daemon import Daemon
from integration.lab.deadline import wait_for
from integration.lab.lab import Lab
from integration.lab.wirehost import WireHost

MEMBERS = ("one", "two", "three")
CLIENTS = {name: 2379 + 10 * place for place, name in enumerate(MEMBERS)}
PEERS = {name: 2380 + 10 * place for place, name in enumerate(MEMBERS)}


class EtcdCluster:
    """Three members that run; any may be killed and started again."""

    def __init__(self, machine: WireHost) -> None:
        self.machine = machine
        initial = ",".join(f"{name}=http://127.0.0.1:{port}" for name, port in PEERS.items())
        self.members = {name: self._member(name, initial) for name in MEMBERS}

    @property
    def url(self) -> str:
        """As pynet is told it."""
        return "etcd://" + ",".join(f"{self.machine.address}:{port}" for port in CLIENTS.values())

    def start(self) -> None:
        """Members that do not run are started; the cluster has a leader."""
        for member in self.members.values():
            if not member.runs():
                member.start()
        wait_for("a leader", lambda: self.ctl("endpoint", "health") is not None, 20)

    def stop(self) -> None:
        """No member runs."""
        for member in self.members.values():
            member.kill()

    def leader(self) -> Daemon:
        """The member that leads."""
        status = self.ctl("endpoint", "status", "--write-out=simple")
        [line] = [line for line in status.splitlines() if line.split(", ")[4] == "true"]
        port = int(line.split(",")[0].rpartition(":")[2])
        return self.members[next(name for name, client in CLIENTS.items() if client == port)]

    def ctl(self, *words: str) -> str:
        """What etcdctl says, asked of all members that run."""
        running = [port for name, port in CLIENTS.items() if self.members[name].runs()]
        endpoints = ",".join(f"http://127.0.0.1:{port}" for port in running)
        return self.machine.run("env", "ETCDCTL_API=3", "etcdctl", f"--endpoints={endpoints}", *words)

    def put(self, entries: dict[str, str]) -> None:
        """The keys have these values, all since one moment."""
        puts = "".join(f"put {key} {json.dumps(value)}\n" for key, value in entries.items())
        port = next(port for name, port in CLIENTS.items() if self.members[name].runs())
        words = ("env", "ETCDCTL_API=3", "etcdctl", f"--endpoints=http://127.0.0.1:{port}", "txn")
        self.machine.run(*words, stdin=f"\n{puts}\n\n")

    def revision(self) -> str:
        """The number of the last change."""
        answers = json.loads(self.ctl("endpoint", "status", "--write-out=json"))
        return str(max(answer["Status"]["header"]["revision"] for answer in answers))

    def all_keys(self) -> list[str]:
        """All keys."""
        return [line for line in self.ctl("get", "--prefix", "--keys-only", "/pynet/").splitlines() if line]

    def _member(self, name: str, initial: str) -> Daemon:
        client, peer = CLIENTS[name], PEERS[name]
        urls = {
            "listen-client-urls": f"http://0.0.0.0:{client}", "advertise-client-urls": f"http://127.0.0.1:{client}",
            "listen-peer-urls": f"http://127.0.0.1:{peer}", "initial-advertise-peer-urls": f"http://127.0.0.1:{peer}",
            "initial-cluster": initial, "name": name, "data-dir": str(self.machine.root / f"etcd-{name}"),
            "logger": "zap", "log-level": "error",
        }  # fmt: skip
        words = ["etcd", "--unsafe-no-fsync", *(f"--{key}={value}" for key, value in urls.items())]
        # A member answers its port as soon as it runs; whether there is a leader is asked later, of all.
        listens = ["sh", "-c", f"ss -Hltn sport = :{client} | grep -q ."]
        machine = self.machine.machine
        return Daemon(machine, f"etcd-{name}", words, answers=lambda: machine.try_run(*listens).returncode == 0)


@contextmanager
def etcd_cluster(lab: Lab) -> Iterator[EtcdCluster]:
    """Inside the block the cluster runs."""
    cluster = EtcdCluster(lab.wire_host("etcd"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()

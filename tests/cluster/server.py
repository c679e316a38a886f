"""A real etcd, a single member, in the network namespace of whoever starts it."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path


class Server:
    """etcd on 127.0.0.1, with its data below `root`."""

    def __init__(self, root: Path, port: int = 2379, *arguments: str, authority: Path | None = None) -> None:
        """It answers; in TLS if the certificate of an `authority` is given, and its own one among the arguments."""
        self.port, self._root, self._authority = port, root, authority
        self._url = url = f"{'https' if authority else 'http'}://127.0.0.1:{port}"
        peers = f"http://127.0.0.1:{port + 1}"
        self._words = [
            *("etcd", "--unsafe-no-fsync", "--data-dir", str(root / "etcd"), "--logger", "zap", "--log-level", "error"),
            *("--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", peers),
            *("--initial-advertise-peer-urls", peers, "--initial-cluster", f"default={peers}", *arguments),
        ]
        self.start()

    def start(self) -> None:
        with (self._root / "etcd.log").open("ab") as log:
            self._process = subprocess.Popen(self._words, stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while self._ctl("endpoint", "health").returncode:
            assert time.monotonic() < deadline, (self._root / "etcd.log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(timeout=10)

    def answer_nobody(self, seconds: float) -> None:
        """It has done nothing for as long."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            self._process.send_signal(signal.SIGCONT)

    def ctl(self, *words: str) -> str:
        done = self._ctl(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def all_keys(self) -> list[str]:
        return [line for line in self.ctl("get", "--prefix", "--keys-only", "/pynet/").splitlines() if line]

    def revision(self) -> int:
        answers = json.loads(self.ctl("endpoint", "status", "--write-out=json"))
        return int(answers[0]["Status"]["header"]["revision"])

    def _ctl(self, *words: str) -> "subprocess.CompletedProcess[str]":
        trust = [f"--cacert={self._authority}"] if self._authority else []
        words = ("etcdctl", f"--endpoints={self._url}", *trust, *words)
        environment = {**os.environ, "ETCDCTL_API": "3"}
        return subprocess.run(words, capture_output=True, text=True, env=environment, check=False)

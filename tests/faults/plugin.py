"""What can befall any plugin, whichever it is: its processes, its records, its clock."""

from __future__ import annotations

import os
import random
import resource
import secrets
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from integration.lab.clock import WallClock
from tests.faults.disk import Disk
from tests.reference.step import REFUSED, Ask, Step
from tests.serving import MORTAL, Serving

DAY_S = 86400
JUMPS_S = (-3650 * DAY_S, -DAY_S, -90, 0, 90, DAY_S, 3650 * DAY_S)


class Chance:
    """FAULT_STEPS and CHAOS_SEED, and what they decide.

    A short run has always the same seed, unless one is given: what `make test` says must not change by chance.
    """

    steps = int(os.environ.get("FAULT_STEPS", "0"))
    is_long = steps > 0

    def __init__(self, what: str, short: int, faults: tuple[str, ...]) -> None:
        self.steps = self.steps or short
        self.seed = os.environ.get("CHAOS_SEED") or (secrets.token_hex(4) if self.is_long else "1")
        self.random = random.Random(f"{self.seed} {what}")
        self._faults, self._deck = faults, list[str]()
        print(f"{what}: CHAOS_SEED={self.seed} FAULT_STEPS={self.steps}")

    def fault(self) -> str:
        """Return the next fault: each comes once before any comes again."""
        if not self._deck:
            self._deck = self.random.sample(self._faults, len(self._faults))
        return self._deck.pop()

    def seconds(self, short: float, long: float) -> float:
        """Return how long something lasts: in a long run one time in ten for `long`."""
        return long if self.is_long and self.random.random() < 0.1 else short


def bugs(serving: Serving) -> int:
    """Return how many tracebacks it has logged, but for asyncio's of a loop for which there were no descriptors."""
    log = serving.log()
    return log.count("Traceback") - log.count("Exception ignored in: <function BaseEventLoop.__del__")


def processes(serving: Serving) -> list[int]:
    """Return the arbiter and its workers."""
    pid = serving.process.pid
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def killed(serving: Serving, chance: random.Random) -> None:
    """It was killed, or a part of it, and answers again."""
    serving.kill(chance.choice(["both", "arbiter", "worker"]))
    if serving.is_dead():
        serving.start()
    serving.wait_until_it_answers()


@contextmanager
def still(serving: Serving) -> Iterator[None]:
    """Inside the block it stands still."""
    pids = processes(serving)
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def stopped(serving: Serving, seconds: float, step: Step) -> None:
    """It stood still while it was asked; it has answered as if nothing had been."""
    done: list[tuple[int, dict[str, object]]] = []
    asking = threading.Thread(target=lambda: done.append(serving.ask(step.method, dict(step.body))))
    with still(serving):
        asking.start()
        time.sleep(seconds)
        assert done == []
    asking.join()
    [(status, answer)] = done
    step.judge(status, answer)


@contextmanager
def few_descriptors(serving: Serving) -> Iterator[None]:
    """Inside the block none of its processes can open anything more than one or two files."""
    before = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in processes(serving)}
    try:
        for pid, (_, hard) in before.items():
            highest = max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir())
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 3, hard))
        yield
    finally:
        for pid, limits in before.items():
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def read_only(serving: Serving, disk: Disk) -> None:
    """It was killed, could not be started on a disk that is read-only, said so, and runs again on the same one."""
    serving.kill()
    disk.remount("ro")
    refused = serving.refused()
    assert "Read-only" in refused or "readonly" in refused, refused
    assert "Traceback" not in refused
    disk.remount("rw")
    serving.start()


def half_a_file(serving: Serving, chance: random.Random) -> None:
    """It was killed, could not be started with half of its file, said so, and runs again with what it had.

    At most half: of an empty page, which may be the last one, nobody needs the end.
    """
    serving.kill()
    [records] = serving.state_dir.glob("*.db")
    files = {path: path.read_bytes() for path in serving.state_dir.glob(f"{records.name}*")}
    whole = records.with_name("whole")
    with sqlite3.connect(records) as connection:
        connection.execute("VACUUM INTO ?", (str(whole),))
    connection.close()
    for path in serving.state_dir.glob(f"{records.name}*"):
        path.unlink()
    records.write_bytes(whole.read_bytes()[: chance.randrange(whole.stat().st_size // 2)])
    refused = serving.refused()
    assert "cannot use the state file" in refused, refused
    assert "Traceback" not in refused
    for path in (whole, *serving.state_dir.glob(f"{records.name}*")):
        path.unlink()
    for path, content in files.items():
        _write(path, content)
    serving.start()


def half_a_frame(serving: Serving, chance: random.Random) -> None:
    """It was killed within a write: behind what was committed is the beginning of something that was not."""
    serving.kill()
    [wal] = serving.state_dir.glob("*.db-wal")
    content = wal.read_bytes()
    _write(wal, content + content[32 : 32 + chance.randrange(1, 4096)])
    serving.start()


def _write(path: Path, content: bytes) -> None:
    """The file has that content, also after a power cut."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def second(serving: Serving, seconds: float) -> Iterator[None]:
    """Inside the block another one is started with the same state, and at its end it has not got it."""
    argv = [word.replace(str(serving.socket), f"{serving.socket}2") for word in serving.argv]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=serving.env) as other:
        try:
            yield
            with suppress(subprocess.TimeoutExpired):
                _, said = other.communicate(timeout=seconds)
                assert (other.returncode, "another" in said) == (1, True), said
        finally:
            other.kill()
    assert not Path(f"{serving.socket}2").exists()


def jumped(clock: WallClock, chance: random.Random) -> None:
    """The clock by which it goes is another time from now on."""
    clock.set(chance.choice(JUMPS_S))


@contextmanager
def background(*argv: str) -> Iterator[None]:
    """Inside the block the program runs, and at its end it has ended by itself."""
    with subprocess.Popen([*MORTAL, *argv]):
        yield


def try_to(step: Step, ask: Ask) -> Step | None:
    """It succeeds, and the model has followed, or it is refused for what befalls the plugin.

    Return it in the second case. It has changed nothing then, but a removal that has begun is finished later.
    """
    status, answer = ask(step.method, dict(step.body))
    print("tried", step.method, dict(step.body), status, answer)
    if status != REFUSED:
        step.judge(status, answer)
        return None
    assert str(answer["Err"]).startswith("cannot "), answer
    return step

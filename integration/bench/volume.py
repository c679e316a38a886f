"""Measure volumes of pyvol beside a plain directory on the same disk, in turns, and what pyvol's verbs take.

Reads and writes are fio's, with O_DIRECT, in the host's own namespace: no container is in the way. The verbs are asked
on the sockets of engine and plugin by this process: no program is started for them.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from integration.bench.laboratory import laboratory
from integration.bench.samples import MEBIBYTES_A_SECOND, Samples
from integration.lab import unixhttp
from integration.lab.engine import ENGINES, SOCKET
from integration.lab.host import Drivers, Host
from integration.lab.lab import Lab
from integration.lab.plugin import SOCKETS

DIRECTORY, LOCAL = "directory", "docker's local"
FILESYSTEMS = ("ext4", "xfs", "btrfs")
# The volumes that fio works in, and what they are made with.
COMPARED = {
    "ext4": {"fs": "ext4"},
    "xfs": {"fs": "xfs"},
    "ext4 in an xfs pool": {"fs": "ext4", "pool": "xfs"},
    "ext4 in a btrfs pool": {"fs": "ext4", "pool": "btrfs"},
}
POOLS = ("xfs", "btrfs")
FILE_MIB = 512
# What fio is told, beside where; and the place of the figure in what it says.
WORKLOADS = {
    "random reads of 4 KiB, 32 at once": ("read", "--rw=randread", "--bs=4k", "--iodepth=32"),
    "random writes of 4 KiB, 32 at once": ("write", "--rw=randwrite", "--bs=4k", "--iodepth=32"),
    "random reads of 4 KiB, one by one": ("read", "--rw=randread", "--bs=4k", "--iodepth=1"),
    "sequential reads of 1 MiB, 8 at once": ("read", "--rw=read", "--bs=1M", "--iodepth=8"),
    "sequential writes of 1 MiB, 8 at once": ("write", "--rw=write", "--bs=1M", "--iodepth=8"),
}
FIO = ("fio", "--name=data", "--ioengine=libaio", "--direct=1", f"--size={FILE_MIB}M", "--output-format=json")
# The sizes of the volumes of which snapshots are taken, and how much of each has been written to.
SNAPSHOT_SIZES = {"1 GiB": 1, "10 GiB": 10}
# How many of the first and of the last volumes are compared.
ENDS = 50
CALL_TIMEOUT_S = 600.0


def main() -> None:
    """Everything was measured and printed, and nothing of it is left."""
    parser = argparse.ArgumentParser(prog="scripts/bench volume", description=__doc__)
    parser.add_argument("--engine", default="docker-28.5", choices=sorted(ENGINES))
    parser.add_argument("--rounds", type=int, default=7, help="how often each thing is measured")
    parser.add_argument("--runtime", type=int, default=3, help="seconds of each run of fio")
    parser.add_argument("--volumes", type=int, default=1000, help="how many volumes there are in the end")
    parser.add_argument("--only", choices=["io", "verbs", "snapshots", "many"], help="measure this alone")
    chosen = parser.parse_args()
    parts: dict[str, Callable[[Host], None]] = {
        "io": lambda host: measure_io(host, chosen.rounds, chosen.runtime),
        "verbs": lambda host: measure_verbs(host, chosen.rounds),
        "many": lambda host: measure_many(host, chosen.volumes),
        "snapshots": lambda host: measure_snapshots(host, chosen.rounds),
    }
    # Not in memory, if that is where temporary files are.
    with laboratory(ENGINES[chosen.engine], Drivers("bridge", "pyvol"), beneath="/var/tmp") as lab:
        for name, measure in parts.items():
            if chosen.only in (None, name):
                with running(lab, on_reflinks=name == "snapshots") as host:
                    measure(host)


@contextmanager
def running(lab: Lab, *, on_reflinks: bool) -> Iterator[Host]:
    """Inside the block an engine and pyvol run; on_reflinks: with the state on a filesystem that shares blocks."""
    host = lab.bare_host()
    try:
        if on_reflinks:
            image, state = str(host.root / "disk.xfs"), str(host.root / "pyvol")
            host.run("truncate", "-s", "40G", image)
            host.run("mkfs.xfs", "-q", "-K", "-m", "reflink=1", image)
            host.run("mkdir", state)
            host.run("mount", "-o", "loop", image, state)
        host.ensure_running()
        yield host
        host.remove_all()
    finally:
        lab.discard(host)


def measure_io(host: Host, rounds: int, runtime: int) -> None:
    """Printed: what fio reaches in volumes of each kind and in a directory beside them."""
    samples = Samples((*COMPARED, DIRECTORY), DIRECTORY, MEBIBYTES_A_SECOND)
    plain = host.root / "plain"
    plain.mkdir()
    places = {DIRECTORY: str(plain)}
    for pool in POOLS:
        administered(host, "Pools.Create", Name=pool, Size="4G", Fs=pool)
    for name, options in COMPARED.items():
        volume = name.replace(" ", "-")
        called(host, "Create", Name=volume, Opts={"size": "2G", **options})
        places[name] = called(host, "Mount", Name=volume, ID="bench")["Mountpoint"]
        told = called(host, "Get", Name=volume)["Volume"]["Status"]
        print(f"{name}: direct I/O {told['direct_io']}", file=sys.stderr)
    for place in places.values():
        host.run(*FIO, f"--directory={place}", "--rw=write", "--bs=1M", "--end_fsync=1", timeout_s=CALL_TIMEOUT_S)
    for measure, (figure, *words) in WORKLOADS.items():
        for _ in range(rounds):
            for name, place in places.items():
                samples.note(measure, name, fio(host, place, figure, "--time_based", f"--runtime={runtime}", *words))
        told_progress(measure)
    for _ in range(rounds):
        for name, place in places.items():
            words = ["--filename=new", "--rw=write", "--bs=1M", "--iodepth=8", "--end_fsync=1", "--unlink=1"]
            samples.note("a new file of 512 MiB", name, fio(host, place, "write", *words))
    told_progress("new files")
    for name in COMPARED:
        volume = name.replace(" ", "-")
        called(host, "Unmount", Name=volume, ID="bench")
        called(host, "Remove", Name=volume)
    for pool in POOLS:
        administered(host, "Pools.Remove", Name=pool)
    print(f"\n{samples.table()}")


def fio(host: Host, place: str, figure: str, *words: str) -> float:
    """Return how many bytes a second fio says that it read or wrote in that directory."""
    said = host.run(*FIO, f"--directory={place}", *words, timeout_s=CALL_TIMEOUT_S)
    return float(json.loads(said)["jobs"][0][figure]["bw_bytes"])


def measure_verbs(host: Host, rounds: int) -> None:
    """Printed: what a volume of 10 GiB takes to be made by the engine, mounted, unmounted, removed."""
    samples = Samples((*FILESYSTEMS, LOCAL), LOCAL)
    for _ in range(rounds):
        for fs in FILESYSTEMS:
            created = timed(engine_creates, host, host.drivers.volume, fs=fs, size="10G")
            mounted = timed(called, host, "Mount", Name="bench", ID="bench")
            samples.note("POST /volumes/create, 10 GiB", fs, created)
            samples.note("the first Mount", fs, mounted)
            samples.note("both", fs, created + mounted)
            samples.note("the last Unmount", fs, timed(called, host, "Unmount", Name="bench", ID="bench"))
            samples.note("DELETE /volumes", fs, timed(engine_removes, host))
        samples.note("POST /volumes/create, 10 GiB", LOCAL, timed(engine_creates, host, "local"))
        samples.note("DELETE /volumes", LOCAL, timed(engine_removes, host))
    told_progress("verbs")
    print(f"\n{samples.table()}")


def measure_many(host: Host, count: int) -> None:
    """Printed: what the first volumes take and the last of many, which are all mounted."""
    first, last = f"the first {ENDS}", f"the last {ENDS} of {count}"
    samples = Samples((first, last), first)

    def note(number: int, measure: str, seconds: float) -> None:
        for variant, numbers in ((first, range(ENDS)), (last, range(count - ENDS, count))):
            if number in numbers:
                samples.note(measure, variant, seconds)

    for number in range(count):
        note(number, "Create", timed(called, host, "Create", Name=f"v{number}", Opts={"size": "16M"}))
        note(number, "Mount", timed(called, host, "Mount", Name=f"v{number}", ID="bench"))
        note(number, "Get", timed(called, host, "Get", Name=f"v{number}"))
    told_progress(f"{count} volumes")
    for number in reversed(range(count)):
        note(number, "Unmount", timed(called, host, "Unmount", Name=f"v{number}", ID="bench"))
        note(number, "Remove", timed(called, host, "Remove", Name=f"v{number}"))
    print(f"\n{samples.table()}")


def measure_snapshots(host: Host, rounds: int) -> None:
    """Printed: what a snapshot takes of volumes of either size, mounted, half full, written to all over."""
    samples = Samples(tuple(SNAPSHOT_SIZES), next(iter(SNAPSHOT_SIZES)))
    for size, gibibytes in SNAPSHOT_SIZES.items():
        called(host, "Create", Name="v", Opts={"size": f"{gibibytes}G"})
        place = called(host, "Mount", Name="v", ID="bench")["Mountpoint"]
        words = (*FIO, f"--directory={place}", f"--size={gibibytes * 512}M")
        host.run(*words, "--rw=write", "--bs=1M", "--end_fsync=1", timeout_s=CALL_TIMEOUT_S)
        scattered = ("--rw=randwrite", "--bs=4k", "--iodepth=32", "--time_based", "--runtime=2", "--end_fsync=1")
        for _ in range(rounds):
            # What is shared since the last snapshot comes apart again, all over.
            host.run(*words, *scattered, timeout_s=CALL_TIMEOUT_S)
            samples.note("snapshot", size, timed(administered, host, "Snapshots.Create", Snapshot="v@s"))
            samples.note("its removal", size, timed(administered, host, "Snapshots.Remove", Snapshot="v@s"))
        called(host, "Unmount", Name="v", ID="bench")
        called(host, "Remove", Name="v")
        told_progress(f"snapshots of {size}")
    print(f"\n{samples.table()}")


def timed(do: Callable[..., object], *words: object, **named: object) -> float:
    """It was done with these; return in how many seconds."""
    started = time.perf_counter()
    do(*words, **named)
    return time.perf_counter() - started


def called(host: Host, method: str, **request: object) -> dict[str, Any]:
    """Return the plugin's answer to the method of VolumeDriver, which is a success."""
    return asked(host.machine.path(f"{SOCKETS}/pyvol.sock"), f"/VolumeDriver.{method}", request)


def administered(host: Host, method: str, **request: object) -> None:
    """The plugin has done what the administrator asked for."""
    asked(host.machine.path(str(host.root / "pyvol/admin.sock")), f"/v1/{method}", request)


def engine_creates(host: Host, driver: str, **options: str) -> None:
    """The engine has the volume bench."""
    body = {"Name": "bench", "Driver": driver, "DriverOpts": options}
    assert asked(host.machine.path(SOCKET), "/volumes/create", body).get("Name") == "bench"


def engine_removes(host: Host) -> None:
    """The engine has no volume bench any more."""
    status = unixhttp.status(host.machine.path(SOCKET), "DELETE", "/volumes/bench", timeout_s=CALL_TIMEOUT_S)
    assert status == HTTPStatus.NO_CONTENT, status


def asked(path: Path, target: str, request: dict[str, object]) -> dict[str, Any]:
    """Return what was answered, which is no error."""
    answer: dict[str, Any] = unixhttp.ask(path, target, request, CALL_TIMEOUT_S)
    assert "Err" not in answer or not answer["Err"], answer
    return answer


def told_progress(what: str) -> None:
    """Whoever waits knows how far it is."""
    print(f"measured: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

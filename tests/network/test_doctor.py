"""What `pynet doctor` finds of the host's own: each broken in a namespace, seen with cause and cure, and healed."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.network.conftest import network_namespace
from tests.network.engine import Engine
from tests.network.samples import NETWORK_ID
from tests.network.sandboxes import LIBC, command
from tests.network.test_ways import OWN, PEER, THERE, Peer, features, outer_alone, wired
from tests.serving import Serving, until
from tests.volume.conftest import mounts_apart

PYNET = Path(sys.executable).with_name("pynet")
BRIDGE = f"pn-{NETWORK_ID[:8]}"
# Known a little after the overlay is made, and told until the ways are tried again.
SILENT = "the overlay's peer 192.0.2.3 does not answer on UDP port 14789"
UNSYNCHRONISED = "the clock of this host is not synchronised"
# adjtimex of a C library that says so: the kernel has one clock for all, which is no test's to set.
_ADJTIMEX = """
#include <stdlib.h>
#include <sys/timex.h>
int adjtimex(struct timex *told) { told->status = atoi(getenv("CLOCK_STATUS")); return told->status ? 5 : 0; }
"""
_TIME_ERROR = 5
SPOILT = "pynet has switched that off on its VXLAN devices, which costs time; a newer driver may help"


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A host with a way out by eth0, on which pynet runs."""
    directory = tmp_path_factory.mktemp("doctor")
    with mounts_apart(directory), network_namespace():
        command("sh", "-ec", "ip link add eth0 type bridge; ip addr add 192.0.2.2/24 dev eth0; ip link set eth0 up")
        command("ip", "route", "add", "default", "via", "192.0.2.1")
        serving = Serving("pynet", directory, "--reconcile-every", "3600")
        serving.start()
        yield serving
        serving.kill()


@pytest.fixture
def engine(serving: Serving) -> Iterator[Engine]:
    engine = Engine(lambda path, body: serving.ask(path[1:], json.loads(body)))
    yield engine
    engine.ok("DeleteNetwork", NetworkID=NETWORK_ID)


def doctor(serving: Serving, *words: str, **environment: str) -> dict[str, str]:
    """What it finds, each with its cure; that there is no engine, and the real clock, are not worth a word here."""
    argv = [str(PYNET), "doctor", "--json", *words, "--engine", "/nonexistent", "--state-dir", str(serving.state_dir)]
    done = subprocess.run(argv, capture_output=True, text=True, env=os.environ | environment, check=False)
    found = {each["what"]: each["cure"] for each in json.loads(done.stdout)}
    assert found.pop("no engine could be asked what it knows")
    found.pop(SILENT, None)
    if not environment:
        found.pop(UNSYNCHRONISED, None)
    return found


@contextmanager
def switches_held(serving: Serving) -> Iterator[Path]:
    """Inside the block pynet can change nothing below /proc/sys; others can, at the path that is given."""
    other = serving.state_dir.with_name("proc")
    other.mkdir(exist_ok=True)
    command("mount", "-t", "proc", "proc", str(other))
    command("mount", "--bind", "/proc/sys", "/proc/sys")
    command("mount", "-o", "remount,bind,ro", "/proc/sys")
    try:
        yield other / "sys"
    finally:
        command("umount", "/proc/sys")
        command("umount", str(other))


HELD = {
    "net/ipv4/ip_forward": "the host forwards no IPv4 packets",
    "net/ipv6/conf/all/forwarding": "the host forwards no IPv6 packets",
    f"net/ipv4/conf/{BRIDGE}/forwarding": (
        f"the host forwards no IPv4 packets of {NETWORK_ID[:12]}: net.ipv4.conf.{BRIDGE}.forwarding is 0"
    ),
}


@pytest.mark.parametrize("switch", HELD)
def test_a_switch_that_pynet_could_not_put_back(serving: Serving, engine: Engine, switch: str) -> None:
    engine.create_network(dual=True)
    # What it can put back, it does before anybody could ask: within seconds.
    with switches_held(serving) as sysctls:
        (sysctls / switch).write_text("0")
        found = doctor(serving, "--fix")
        assert "--fix s" in found.pop(HELD[switch])
        assert all(what.startswith("not as recorded: cannot s") for what in found)
        assert all("is /proc/sys writable here?" in what for what in found)
        assert Path("/proc/sys", switch).read_text() == "0\n"
    assert doctor(serving, "--fix") == {}
    assert Path("/proc/sys", switch).read_text() == "1\n"


def test_a_change_that_was_cut_short(serving: Serving, engine: Engine) -> None:
    engine.create_network()
    program = str(Path(shutil.which("iptables-restore") or "").resolve())
    command("mount", "--bind", "/bin/false", program)
    try:
        engine.error("DeleteNetwork", NetworkID=NETWORK_ID)
        found = doctor(serving)
        assert found[f"a change of network {NETWORK_ID} was cut short"].startswith("--fix finishes or undoes it")
        assert any(what.startswith("not as recorded: ") for what in doctor(serving, "--fix"))
    finally:
        command("umount", program)
    assert BRIDGE in command("nft", "list", "ruleset") + command("iptables-save")
    assert doctor(serving, "--fix") == {}
    assert BRIDGE not in command("nft", "list", "ruleset") + command("iptables-save") + command("ip", "link")


def test_checksums_that_a_card_spoils(serving: Serving, engine: Engine) -> None:
    with closing(Peer()) as peer, wired(peer, outer_alone):
        peer.serve(THERE)
        status, answer = engine.create_network(type="overlay", name="blue", peers=f"{OWN},{PEER}")
        assert status == 200, answer
        what = f"packets to {PEER} have wrong checksums if the network card computes them"
        until(lambda: what in doctor(serving), "the way was tried")
        assert doctor(serving) == {what: SPOILT}
        assert "tx-checksum" not in features(f"pnx{NETWORK_ID[:8]}")
        engine.ok("DeleteNetwork", NetworkID=NETWORK_ID)
        until(lambda: doctor(serving) == {}, "the way is nobody's any more")


def test_a_way_out_that_does_not_forward(serving: Serving, engine: Engine) -> None:
    engine.create_network()
    command("sysctl", "-qw", "net.ipv4.conf.eth0.forwarding=0")
    [(what, cure)] = doctor(serving).items()
    assert what == "the host forwards no IPv4 packets that come by eth0: net.ipv4.conf.eth0.forwarding is 0"
    command(*cure.partition(";")[0].split())
    assert doctor(serving) == {}


def test_a_way_out_for_ipv6_that_routers_announce(serving: Serving, engine: Engine) -> None:
    engine.create_network(dual=True)
    command("ip", "-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0", "proto", "ra")
    command("sysctl", "-qw", "net.ipv6.conf.eth0.accept_ra=1")
    [(what, cure)] = doctor(serving).items()
    assert what == "the way out for IPv6, by eth0, ends soon: a host that forwards hears no routers"
    command(*cure.split())
    assert doctor(serving) == {}


def test_a_way_to_a_peer_that_is_narrower_than_the_overlay(serving: Serving, engine: Engine) -> None:
    status, answer = engine.create_network(type="overlay", name="blue", peers="192.0.2.2,192.0.2.3")
    assert status == 200, answer
    command("ip", "route", "add", "192.0.2.3", "dev", "eth0", "mtu", "1400")
    [(what, cure)] = doctor(serving).items()
    assert "is 1450, and the way to 192.0.2.3 has room for 1350" in what
    assert cure.endswith("-o com.docker.network.driver.mtu=1350")
    command("ip", "route", "replace", "192.0.2.3", "dev", "eth0", "mtu", "1500")
    assert doctor(serving) == {}


def test_a_clock_that_nobody_keeps_right(serving: Serving, tmp_path: Path) -> None:
    library = tmp_path / "adjtimex.so"
    compile_it = ["cc", "-shared", "-fPIC", "-o", str(library), "-x", "c", "-"]
    subprocess.run(compile_it, input=_ADJTIMEX, text=True, check=True, timeout=60)
    clock = {"LD_PRELOAD": str(library)}
    assert doctor(serving, **clock, CLOCK_STATUS="0") == {}
    [(what, cure)] = doctor(serving, **clock, CLOCK_STATUS="64").items()
    assert what == UNSYNCHRONISED
    assert "systemd-timesyncd or chrony" in cure
    is_unsynchronised = LIBC.ntp_gettime(ctypes.create_string_buffer(256)) == _TIME_ERROR
    assert (UNSYNCHRONISED in doctor(serving, LC_ALL="C")) == is_unsynchronised

"""`pyvol doctor` beside a real engine: what it finds by asking that, and that it heals it."""

import json
from pathlib import Path

from integration.lab import image, plugin, unixhttp
from integration.lab.host import Host

NONE = ("--network", "none")
CALLER = "c" * 64


def doctor(host: Host, *words: str) -> dict[str, str]:
    """What the doctor finds but for notes, each with its cure."""
    argv = (plugin.script("pyvol"), "doctor", *words, "--json", "--state-dir", str(host.root / "pyvol"))
    done = host.machine.try_run(*argv)
    found = json.loads(done.stdout)
    real = {each["what"]: each["cure"] for each in found if each["level"] != "note"}
    assert done.returncode == bool(real), done
    return real


def create(host: Host, name: str) -> None:
    host.docker("volume", "create", "-d", host.drivers.volume, "-o", "size=16M", name)


def plugin_is_told(host: Host, method: str, **request: str) -> int:
    """The plugin was sent a request of which the engine knows nothing; return the status of its answer."""
    socket = Path(f"/proc/{host.plugins['pyvol'].pid}/root{plugin.SOCKETS}/pyvol.sock")
    return unixhttp.status(socket, "POST", f"/VolumeDriver.{method}", json.dumps(request))


def test_who_is_mounted_for_nobody_is_found_and_let_go(host: Host) -> None:
    for name in ("v1", "v2"):
        create(host, name)
    host.idle("ann", *NONE, "-v", "v1:/data")
    assert doctor(host) == {}
    # An Unmount was lost: while the plugin was down, say.
    for name in ("v1", "v2"):
        assert plugin_is_told(host, "Mount", Name=name, ID=CALLER) == 200
    [(what, cure)] = doctor(host).items()
    assert what == f"v2 is mounted for {CALLER[:12]}, and no engine has a container that runs with it"
    assert cure.startswith("--fix ends that")
    assert doctor(host, "--fix") == {}
    assert host.sh("ann", "echo kept >/data/file; cat /data/file") == "kept", "who has a container is left alone"
    host.docker("volume", "rm", "v2")
    host.docker("rm", "-f", "ann")
    assert doctor(host) == {}


def test_a_volume_that_pyvol_has_lost(host: Host) -> None:
    create(host, "v1")
    host.docker("create", "--name", "ann", *NONE, "-v", "v1:/data", image.NAME, "true")
    assert doctor(host) == {}
    assert plugin_is_told(host, "Remove", Name="v1") == 200
    [(what, cure)] = doctor(host).items()
    assert what == "container ann has the volume v1, of which pyvol knows nothing"
    assert cure == "pyvol undelete v1, pyvol restore; or docker rm ann"
    host.docker("rm", "ann")
    assert doctor(host) == {}


def test_an_engine_that_does_not_answer_is_told_and_nobody_is_let_go(host: Host) -> None:
    create(host, "v1")
    assert plugin_is_told(host, "Mount", Name="v1", ID=CALLER) == 200
    said = {"no engine could be asked what it knows": "say where it is: --engine SOCKET"}
    assert doctor(host, "--engine", "/nonexistent", "--fix") == said
    assert plugin_is_told(host, "Unmount", Name="v1", ID=CALLER) == 200
    assert doctor(host) == {}

"""An encrypted volume beside a real engine: containers write as ever, and the disk tells nothing."""

import json
import secrets
from pathlib import Path

import pytest

from integration.lab import image, plugin
from integration.lab.deadline import wait_for
from integration.lab.host import Host

NONE = ("--network", "none")
SECRET = "nobody shall read that on the disk"


def key(host: Host, name: str, content: bytes) -> str:
    """The key lies beside the plugin's state; return its path as the plugin sees it."""
    keys = host.root / "pyvol" / "keys"
    keys.mkdir(exist_ok=True)
    (keys / name).write_bytes(content)
    (keys / name).chmod(0o600)
    return f"{host.volume_state}/keys/{name}"


def create(host: Host, name: str, *options: str) -> None:
    argv = [part for option in ("size=32M", *options) for part in ("-o", option)]
    host.docker("volume", "create", "-d", host.drivers.volume, *argv, name)


def image_of(host: Host, name: str) -> Path:
    return host.root / "pyvol" / "volumes" / name / "image.ext4"


@pytest.mark.everywhere
def test_what_containers_write_is_theirs_alone(host: Host) -> None:
    content = secrets.token_bytes(64)
    create(host, "v1", "encrypt=true", f"key_file={key(host, 'k', content)}")
    host.idle("ann", *NONE, "-v", "v1:/data")
    host.sh("ann", f"echo {SECRET} >/data/{SECRET.split()[0]}; sync")
    assert SECRET.encode() not in image_of(host, "v1").read_bytes()
    host.plugins["pyvol"].kill()
    host.ensure_running()
    assert host.sh("ann", "echo more >>/data/nobody; cat /data/nobody") == f"{SECRET}\nmore"
    host.engine.kill()
    host.ensure_running()
    host.docker("restart", "--time", "0", "ann")
    assert host.sh("ann", "cat /data/nobody") == f"{SECRET}\nmore"
    host.docker("rm", "-f", "ann")
    key(host, "k", content[::-1])
    said = host.docker_error("run", "--rm", *NONE, "-v", "v1:/data", image.NAME, "cat", "/data/nobody")
    assert "the volume was encrypted with another key" in said
    [told] = json.loads(host.docker("volume", "inspect", "v1"))
    assert told["Status"]["encrypted"] is True
    key(host, "k", content)
    assert host.once("cat /data/nobody", *NONE, "-v", "v1:/data") == f"{SECRET}\nmore"


def test_after_a_power_cut_the_key_is_asked_for_again(host: Host) -> None:
    create(host, "v1", "encrypt=true", f"key_file={key(host, 'k', secrets.token_bytes(64))}")
    host.idle("ann", *NONE, "--restart", "always", "-v", "v1:/data")
    host.sh("ann", f"echo {SECRET} >/data/file; sync")
    host.run("sync", "-f", str(host.root))
    host.reboot()
    host.ensure_running()
    wait_for("ann is back", lambda: host.facts("ann", ".State.Running") == "true")
    assert host.sh("ann", "cat /data/file") == SECRET


def test_without_its_key_a_volume_can_be_looked_at_and_removed(host: Host) -> None:
    path = key(host, "k", secrets.token_bytes(32))
    create(host, "v1", "encrypt=true", f"key_file={path}")
    (host.root / "pyvol" / "keys" / "k").unlink()
    said = host.docker_error("run", "--rm", *NONE, "-v", "v1:/data", image.NAME, "true")
    assert f"cannot read the key {path}: No such file" in said
    assert host.docker("volume", "ls", "-q") == "v1"
    assert "without its key nobody reads the volume" in host.docker("volume", "inspect", "v1")
    host.docker("volume", "rm", "v1")
    said = host.docker_error("volume", "create", "-d", host.drivers.volume, "-o", "encrypt=true", "v2")
    assert "give -o key_file=PATH or -o key_cmd=PROGRAM" in said
    said = host.docker_error(
        "volume", "create", "-d", host.drivers.volume, "-o", "encrypt=true", "-o", "key_file=/etc/shadow", "v2"
    )
    assert "it is not below a directory of keys" in said
    assert host.docker("volume", "ls", "-q") == ""


def test_files_go_out_and_come_in_again(host: Host) -> None:
    path = key(host, "k", secrets.token_bytes(64))
    create(host, "v1", "encrypt=true", f"key_file={path}")
    host.idle("ann", *NONE, "-v", "v1:/data")
    host.sh("ann", f"echo {SECRET} >/data/file")
    pyvol = (plugin.script("pyvol"),)
    where = ("--state-dir", str(host.root / "pyvol"))
    tar, archive = str(host.root / "tar"), str(host.root / "archive")
    host.run(*pyvol, "backup", "v1", "--to", archive, *where)
    host.run(*pyvol, "export", "v1", "--to", tar, *where)
    assert SECRET.encode() in Path(tar).read_bytes()
    assert SECRET.encode() not in Path(archive).read_bytes()
    host.run(*pyvol, "restore", archive, "--as", "v2", "-o", f"key_file={path}", *where)
    host.run(*pyvol, "import", "v3", "--from", tar, "-o", "encrypt=true", "-o", f"key_file={path}", *where)
    for name in ("v2", "v3"):
        assert host.once("cat /data/file", *NONE, "-v", f"{name}:/data") == SECRET
        assert SECRET.encode() not in image_of(host, name).read_bytes()

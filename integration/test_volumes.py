"""Volumes of the loop backend: a hard size, and data that stays as long as the volume does."""

import json
import re

import pytest

from integration.lab.host import Host

NONE = ("--network", "none")
MEBIBYTE = 1024 * 1024


@pytest.fixture
def volume(host: Host) -> str:
    host.docker("volume", "create", "-d", host.drivers.volume, "-o", "size=64M", "v1")
    return "v1"


def used_on_disk(host: Host) -> int:
    """The bytes that the plugin's folder occupies on the host's disk."""
    host.run("sync", "-f", str(host.root))
    return int(
        host.run("du", "--summarize", "--block-size=1", "--one-file-system", str(host.root / "pyvol")).split()[0]
    )


@pytest.mark.everywhere
def test_df_says_the_size_that_was_asked_for(host: Host, volume: str) -> None:
    line = host.once("df -P -k /data | tail -1", *NONE, "-v", f"{volume}:/data")
    device, kilobytes, _, available, *_ = line.split()
    assert device.startswith("/dev/loop")
    assert 56 <= int(kilobytes) / 1024 <= 64
    assert int(available) / 1024 > 50, line


def test_the_default_size_is_one_gibibyte(host: Host) -> None:
    host.docker("volume", "create", "-d", host.drivers.volume, "v1")
    line = host.once("df -P -k /data | tail -1", *NONE, "-v", "v1:/data")
    assert 900 <= int(line.split()[1]) / 1024 <= 1024
    assert used_on_disk(host) < 100 * MEBIBYTE


def test_more_than_the_size_does_not_fit_and_the_host_is_fine(host: Host, volume: str) -> None:
    host.idle("ann", *NONE, "-v", f"{volume}:/data")
    said = host.sh("ann", "dd if=/dev/zero of=/data/big bs=1M count=65 2>&1 && exit 1; true")
    assert "No space left on device" in said
    host.sh("ann", "touch /tmp/here && rm /data/big && echo fits >/data/small")
    host.docker("volume", "create", "-d", host.drivers.volume, "-o", "size=64M", "v2")
    host.once("echo other >/data/file", *NONE, "-v", "v2:/data")
    assert host.sh("ann", "cat /data/small") == "fits"


@pytest.mark.everywhere
def test_data_is_there_in_the_next_container(host: Host, volume: str) -> None:
    host.once("echo kept >/data/file && chown 99:99 /data/file && chmod 640 /data/file", *NONE, "-v", f"{volume}:/data")
    assert host.once("cat /data/file && stat -c %u:%a /data/file", *NONE, "-v", f"{volume}:/data") == "kept\n99:640"


def test_a_fresh_volume_is_empty(host: Host, volume: str) -> None:
    assert host.once("ls -A /data", *NONE, "-v", f"{volume}:/data") == ""


def test_removal_frees_the_disk_space(host: Host) -> None:
    before = used_on_disk(host)
    host.docker("volume", "create", "-d", host.drivers.volume, "-o", "size=64M", "v1")
    host.once("dd if=/dev/urandom of=/data/big bs=1M count=40 2>/dev/null; sync", *NONE, "-v", "v1:/data")
    assert used_on_disk(host) > before + 40 * MEBIBYTE
    host.docker("volume", "rm", "v1")
    assert used_on_disk(host) < before + MEBIBYTE


def test_inspect_and_ls_know_it(host: Host, volume: str) -> None:
    (described,) = json.loads(host.docker("volume", "inspect", volume))
    assert (described["Name"], described["Driver"], described["Scope"]) == (volume, host.drivers.volume, "local")
    assert re.search(rf"^{host.drivers.volume} +{volume}$", host.docker("volume", "ls"), re.MULTILINE)
    host.idle("ann", *NONE, "-v", f"{volume}:/data")
    (described,) = json.loads(host.docker("volume", "inspect", volume))
    host.sh("ann", "echo seen >/data/file")
    assert host.run("cat", f"{described['Mountpoint']}/file") == "seen\n"


def test_two_containers_share_one_volume(host: Host, volume: str) -> None:
    host.idle("ann", *NONE, "-v", f"{volume}:/data")
    host.idle("bob", *NONE, "-v", f"{volume}:/data")
    host.sh("ann", "echo hello >/data/file")
    assert host.sh("bob", "cat /data/file") == "hello"
    host.docker("rm", "-f", "ann")
    assert host.sh("bob", "cat /data/file && echo more >>/data/file && cat /data/file") == "hello\nhello\nmore"


def test_volumes_from(host: Host, volume: str) -> None:
    host.idle("ann", *NONE, "-v", f"{volume}:/data")
    host.sh("ann", "echo hello >/data/file")
    assert host.once("cat /data/file", *NONE, "--volumes-from", "ann") == "hello"
    assert "Read-only" in host.docker_error(
        "run", "--rm", *NONE, "--volumes-from", "ann:ro", "lab", "touch", "/data/other"
    )


def test_a_read_only_mount(host: Host, volume: str) -> None:
    host.once("echo kept >/data/file", *NONE, "-v", f"{volume}:/data")
    assert host.once("cat /data/file; ! touch /data/other 2>/dev/null", *NONE, "-v", f"{volume}:/data:ro") == "kept"


def test_a_volume_is_made_by_run_and_an_anonymous_one_goes_with_it(host: Host) -> None:
    driver = ("--volume-driver", host.drivers.volume)
    host.once("echo named >/data/file", *NONE, *driver, "-v", "named:/data")
    assert host.once("cat /data/file", *NONE, "-v", "named:/data") == "named"
    host.once("echo gone >/data/file", *NONE, *driver, "-v", "/data")
    assert host.docker("volume", "ls", "-q").split() == ["named"]


def test_the_mount_flag_brings_options(host: Host) -> None:
    mount = f"type=volume,src=v1,dst=/data,volume-driver={host.drivers.volume},volume-opt=size=32M"
    line = host.once("df -P -k /data | tail -1", *NONE, "--mount", mount)
    assert int(line.split()[1]) / 1024 <= 32


def test_content_of_the_image_is_copied_into_a_fresh_volume(host: Host, volume: str) -> None:
    assert host.once("cat /seed/greeting", *NONE, "-v", f"{volume}:/seed") == "from the image"
    host.once("echo changed >/seed/greeting", *NONE, "-v", f"{volume}:/seed")
    assert host.once("cat /seed/greeting", *NONE, "-v", f"{volume}:/seed") == "changed"


@pytest.mark.everywhere
def test_copying_into_a_running_container_keeps_the_volume_mounted(host: Host, volume: str) -> None:
    host.idle("ann", *NONE, "-v", f"{volume}:/data")
    source = host.root / "copied"
    for text in ("first", "second"):
        source.write_text(f"{text}\n")
        host.docker("cp", str(source), "ann:/data/copied")
        assert host.sh("ann", "cat /data/copied && echo still >/data/mine && cat /data/mine") == f"{text}\nstill"
    host.docker("cp", "ann:/data/mine", str(host.root / "back"))
    assert (host.root / "back").read_text() == "still\n"
    host.once("cat /data/copied", *NONE, "-v", f"{volume}:/data")
    assert host.sh("ann", "cat /data/mine") == "still"


def test_stop_and_start(host: Host, volume: str) -> None:
    host.idle("ann", *NONE, "-v", f"{volume}:/data")
    host.sh("ann", "echo kept >/data/file")
    host.docker("restart", "-t", "0", "ann")
    host.docker("stop", "-t", "0", "ann")
    assert "/dev/loop" not in host.run("cat", "/proc/mounts"), "nothing uses the volume: it must not stay mounted"
    host.docker("start", "ann")
    assert host.sh("ann", "cat /data/file") == "kept"


def test_a_volume_in_use_is_not_removed(host: Host, volume: str) -> None:
    host.idle("ann", *NONE, "-v", f"{volume}:/data")
    assert "in use" in host.docker_error("volume", "rm", volume)
    host.sh("ann", "echo works >/data/file")
    host.docker("rm", "-f", "ann")
    host.docker("volume", "rm", volume)
    assert host.docker("volume", "ls", "-q") == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-o", "colour=red"], "colour"),
        (["-o", "size=huge"], "huge"),
        (["-o", "size=-5M"], "-5M"),
        (["-o", "backend=tape"], "tape"),
    ],
)
def test_a_bad_option_is_named_and_nothing_is_made(host: Host, options: list[str], said: str) -> None:
    assert said in host.docker_error("volume", "create", "-d", host.drivers.volume, *options, "v1")
    assert host.docker("volume", "ls", "-q") == ""


@pytest.mark.parametrize("name", ["../evil", "a/b", "with space", "-dash", "ünï", "x" * 300])
def test_a_name_that_is_no_name_never_becomes_a_path(host: Host, name: str) -> None:
    host.docker_error("volume", "create", "-d", host.drivers.volume, f"--name={name}")
    assert host.docker("volume", "ls", "-q") == ""


def test_many_volumes_at_once(host: Host) -> None:
    names = [f"v{number}" for number in range(4)]
    for name in names:
        mount = f"type=volume,src={name},dst=/data,volume-driver={host.drivers.volume},volume-opt=size=32M"
        host.docker(
            "create", "--name", f"c-{name}", *NONE, "--mount", mount, "lab", "sh", "-c", f"echo {name} >/data/x"
        )
    host.docker("start", *(f"c-{name}" for name in names))
    assert host.docker("wait", *(f"c-{name}" for name in names)).split() == ["0"] * 4
    for name in names:
        assert host.once("cat /data/x", *NONE, "-v", f"{name}:/data") == name

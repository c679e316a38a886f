"""Managed plugins: made of a folder, set, enabled, killed and forgotten, with the stock docker CLI."""

import io
import json
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import ApiError, BadParameter, Failed, NotFound, Unsupported
from runtime.events import Events
from runtime.exits import Exits, pause_s
from runtime.plugins.config import Place, Plugin, changed, initial, parse, specification
from runtime.plugins.managed import Managed
from runtime.plugins.programs import Programs
from runtime.process import Processes
from runtime.state import State
from tests.runtime.machine import Machine
from tests.runtime.test_containers import NO_NETWORK, eventually

CONFIG: dict[str, Any] = {
    "Interface": {"Types": ["docker.volumedriver/1.0"], "Socket": "small.sock"},
    "Entrypoint": ["/usr/bin/python3", "/plugin.py"],
    "PropagatedMount": "/propagated",
    "Mounts": [
        {"Name": f"m{number}", "Source": path, "Destination": path, "Type": "bind", "Options": ["rbind", "ro"]}
        for number, path in enumerate(("/usr", "/etc"))
    ],
    "Env": [
        {"Name": "MOOD", "Settable": ["value"], "Value": "good"},
        {"Name": "FIXED", "Settable": None, "Value": "1"},
    ],
    "Linux": {"Capabilities": ["CAP_SYS_ADMIN"]},
}
LINKS = ("bin", "lib", "lib64", "sbin")


@pytest.fixture
def small(machine: Machine, tmp_path: Path) -> Iterator[str]:
    """The name of a plugin that was created and is disabled."""
    rootfs = tmp_path / "small" / "rootfs"
    for folder in ("usr", "etc", "run/docker/plugins", "propagated"):
        (rootfs / folder).mkdir(parents=True)
    for name in LINKS:
        if (host := Path("/", name)).is_symlink():
            (rootfs / name).symlink_to(host.readlink())
    (rootfs / "plugin.py").write_bytes(Path(__file__).with_name("small_plugin.py").read_bytes())
    (tmp_path / "small" / "config.json").write_text(json.dumps(CONFIG))
    machine.docker("plugin", "create", "small", str(tmp_path / "small"))
    try:
        yield "small"
    finally:
        machine.try_docker("plugin", "rm", "-f", "small")


def pids(machine: Machine) -> list[str]:
    """The processes of plugins, as the machine numbers them."""
    return machine.namespace.run("sh", "-c", "pgrep -f '^/usr/bin/python3 /plugin.py' || true").split()


def volume(machine: Machine, script: str) -> str:
    options = ("--volume-driver", "small", "-v", "v1:/data")
    return machine.docker("run", "--rm", *NO_NETWORK, *options, "lab", "sh", "-c", script)


def test_from_the_folder_to_nothing(machine: Machine, small: str) -> None:
    assert machine.docker("plugin", "ls", "--format", "{{.Name}} {{.Enabled}}") == "small:latest false"
    assert "found but disabled" in machine.try_docker("volume", "create", "-d", small, "v1").stderr
    machine.docker("plugin", "enable", small)
    assert volume(machine, "echo kept >/data/file; grep ' /data ' /proc/mounts").startswith("small /data tmpfs")
    assert volume(machine, "cat /data/file") == "kept"
    told = json.loads(machine.docker("volume", "inspect", "v1"))[0]
    assert told["Driver"] == "small:latest"
    assert machine.namespace.path(told["Mountpoint"] + "/file").read_text() == "kept\n"
    for verb in ("disable", "rm"):
        assert "in use by volume v1" in machine.try_docker("plugin", verb, small).stderr
    machine.docker("volume", "rm", "v1")
    assert "is enabled" in machine.try_docker("plugin", "rm", small).stderr
    machine.docker("plugin", "disable", small)
    assert pids(machine) == []
    machine.docker("plugin", "rm", small)
    assert "propagated" not in machine.namespace.run("cat", "/proc/mounts")
    assert list((machine.root / "pyrun" / "plugins").iterdir()) == []


def test_a_plugin_that_ends_tells_why_and_stays_disabled(machine: Machine, small: str) -> None:
    assert "not settable" in machine.try_docker("plugin", "set", small, "FIXED=2").stderr
    machine.docker("plugin", "set", small, "MOOD=bad")
    assert "small: not today" in machine.try_docker("plugin", "enable", small).stderr
    assert machine.docker("plugin", "inspect", "--format", "{{.Enabled}} {{.Settings.Env}}", small) == (
        "false [FIXED=1 MOOD=bad]"
    )
    machine.docker("plugin", "set", small, "MOOD=good")
    machine.docker("plugin", "enable", small)
    assert "disable plugin before setting" in machine.try_docker("plugin", "set", small, "MOOD=bad").stderr


def test_the_plugin_is_killed_and_the_daemon_is(machine: Machine, small: str) -> None:
    machine.docker("plugin", "enable", small)
    volume(machine, "echo kept >/data/file")
    before = pids(machine)
    machine.daemon.kill()
    assert pids(machine) == before
    machine.daemon.start()
    assert volume(machine, "cat /data/file") == "kept"
    assert pids(machine) == before
    machine.namespace.run("kill", "-9", *before)
    assert volume(machine, "cat /data/file") == "kept"
    assert len(pids(machine)) == 1
    # Both at once: nobody is there to see the plugin end.
    machine.daemon.kill()
    machine.namespace.run("kill", "-9", *pids(machine))
    machine.daemon.start()
    assert volume(machine, "cat /data/file") == "kept"
    machine.docker("volume", "rm", "v1")


def test_registries_are_not_spoken_to(machine: Machine) -> None:
    done = machine.try_docker("plugin", "install", "--grant-all-permissions", "example.test/some/plugin")
    assert "speaks to no registry" in done.stderr


def packed(*entries: tuple[str, bytes | str | None]) -> io.BytesIO:
    """A tar archive: bytes are a file's, a text is where a link leads, None is a directory."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
            else:
                entry.type, entry.linkname = (tarfile.SYMTYPE, content) if content else (tarfile.DIRTYPE, "")
                tar.addfile(entry)
    archive.seek(0)
    return archive


GOOD = ("config.json", json.dumps(CONFIG).encode())


@pytest.mark.parametrize(
    "entries",
    [
        [GOOD],
        [("rootfs", None)],
        [GOOD, ("rootfs", "/")],
        [("config.json", "/etc/hostname"), ("rootfs", None)],
        [GOOD, ("../rootfs", None)],
        [("config.json", b"{"), ("rootfs", None)],
        [("config.json", b'{"Entrypoint": "sh", "Interface": {"Socket": "a.sock"}}'), ("rootfs", None)],
        [("config.json", b'{"Entrypoint": ["sh"], "Interface": {"Socket": "../a.sock"}}'), ("rootfs", None)],
    ],
)
def test_odd_archives_leave_nothing(state: State, tmp_path: Path, entries: list[Any]) -> None:
    programs = Programs(Processes(tmp_path / "runc", "/pyrun-none"), tmp_path / "plugins", tmp_path / "run")
    managed = Managed(state, programs, Events())
    with pytest.raises(BadParameter):
        managed.create("odd", packed(*entries))
    assert list((tmp_path / "plugins").iterdir()) == []
    managed.create("odd", packed(GOOD, ("rootfs", None)))
    assert managed.get("odd").name == "odd:latest"


def test_what_a_killed_daemon_has_left_goes(tmp_path: Path) -> None:
    """Of a plugin that was being created or removed."""
    programs = Programs(Processes(tmp_path / "runc", "/pyrun-none"), tmp_path / "plugins", tmp_path / "run")
    with closing(State(tmp_path / "pyrun.db")) as state:
        managed = Managed(state, programs, Events())
        managed.create("kept", packed(GOOD, ("rootfs", None)))
        (tmp_path / "plugins" / "half" / "content").mkdir(parents=True)
    with closing(State(tmp_path / "pyrun.db")) as state:
        managed = Managed(state, programs, Events())
        kept = managed.get("kept")
        assert [path.name for path in (tmp_path / "plugins").iterdir()] == [kept.id]
        with pytest.raises(NotFound, match="no such plugin"):
            managed.get("half")


FULL = parse(
    json.dumps(
        {
            "Interface": {"Types": ["docker.networkdriver/1.0", "docker.ipamdriver/1.0"], "Socket": "a.sock"},
            "Entrypoint": ["/a"],
            "Network": {"Type": "host"},
            "PidHost": True,
            "Mounts": [{"Name": "state", "Settable": ["source"], "Destination": "/state", "Options": ["rbind"]}],
            "Env": [{"Name": "A", "Settable": ["value"]}],
            "Args": {"Name": "args", "Settable": ["value"], "Value": ["-x"]},
            "Linux": {
                "Capabilities": ["CAP_NET_ADMIN"],
                "AllowAllDevices": True,
                "Devices": [{"Name": "d", "Settable": ["path"], "Path": "/dev/null"}],
            },
        }
    ).encode()
)
PLACE = Place(Path("/r"), Path("/s"), Path("/p"), "/pyrun/x", [{"path": "/dev/a", "type": "c", "major": 1, "minor": 3}])


def test_what_runc_is_told() -> None:
    settings = changed(FULL, initial(FULL), ["A=b=c", "state.source=/there", "args=one two", "d=/dev/zero"])
    assert [each.path for each in settings.devices] == ["/dev/zero"]
    told = specification(Plugin("0" * 64, "a:latest", True, settings, FULL), PLACE)
    assert told["process"]["args"] == ["/a", "one", "two"]
    assert told["process"]["env"][1:] == ["A=b=c"]
    assert "CAP_NET_ADMIN" in told["process"]["capabilities"]["effective"]
    assert "CAP_SYS_ADMIN" not in told["process"]["capabilities"]["bounding"]
    assert {each["type"] for each in told["linux"]["namespaces"]} == {"mount", "uts", "cgroup", "ipc"}
    assert told["linux"]["resources"]["devices"][0] == {"allow": True, "access": "rwm"}
    assert "seccomp" not in told["linux"]
    assert told["mounts"][-1] == {"destination": "/state", "type": "bind", "source": "/there", "options": ["rbind"]}
    assert FULL.kinds == {"NetworkDriver", "IpamDriver"}


@pytest.mark.parametrize("word", ["B=1", "A", "A.source=1", "state.value=1", "=1", ""])
def test_what_cannot_be_set(word: str) -> None:
    with pytest.raises(BadParameter, match=r"not settable|not found"):
        changed(FULL, initial(FULL), [word])


def test_a_mount_without_a_source_is_told() -> None:
    with pytest.raises(Failed, match="mount source is not specified"):
        specification(Plugin("0" * 64, "a:latest", True, initial(FULL), FULL), PLACE)


def test_another_protocol_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"does not speak grpc"):
        parse(b'{"Entrypoint": ["a"], "Interface": {"Socket": "a.sock", "ProtocolScheme": "grpc"}}')


def test_pauses_grow_and_are_bounded() -> None:
    pauses = [pause_s(failures) for failures in range(1, 30)]
    assert pauses[:3] == [0.1, 0.2, 0.4]
    assert sorted(pauses) == pauses
    assert pauses[-1] == 60.0


def test_a_refusing_end_is_told_once_for_each_reason(caplog: pytest.LogCaptureFixture) -> None:
    reasons: list[ApiError] = [Failed("no room"), Failed("no room"), Failed("read-only")]
    done: list[float] = []

    def end() -> None:
        if reasons:
            raise reasons.pop(0)
        done.append(time.monotonic())

    begun = time.monotonic()
    Exits().watch(None, end)
    eventually(lambda: bool(done))
    assert done[0] - begun >= pause_s(1) + pause_s(2) + pause_s(3)
    assert [record.args[0].args[0] for record in caplog.records] == ["no room", "read-only"]  # type: ignore[union-attr]

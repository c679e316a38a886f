"""docker-py, the Python library of the Engine API: each method that pyrun is to have, on dockerd 28.5 and on pyrun."""

import io
import json
import socket
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from typing import Any

import docker
import pytest
from docker import DockerClient
from docker.errors import APIError, ImageNotFound, NotFound
from docker.models.containers import Container

from integration.lab import image
from integration.lab.host import Host
from tests.runtime.engines import DOCKER, PYRUN, side_by_side

pytestmark = [
    pytest.mark.timeout(300),
    # docker-py leaves closing the sockets of its streams to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
IDLE = ("sleep", "1000")


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, Host]]:
    with side_by_side() as both:
        yield dict(zip((DOCKER, PYRUN), both, strict=True))


@pytest.fixture(params=[DOCKER, PYRUN])
def url(request: pytest.FixtureRequest, hosts: dict[str, Host]) -> str:
    return f"unix://{hosts[request.param].machine.path('/run/docker.sock')}"


@pytest.fixture
def client(url: str) -> Iterator[DockerClient]:
    """Whatever a test leaves is removed by the next line of its own tool."""
    with closing(docker.DockerClient(url, timeout=30)) as client:
        yield client
        for container in client.containers.list(all=True):
            container.remove(force=True, v=True)
        for network in client.networks.list(filters={"type": "custom"}):
            network.remove()
        for volume in client.volumes.list():
            volume.remove()


@pytest.fixture
def idle(client: DockerClient) -> Container:
    return client.containers.run("lab", [*IDLE], name="idle", detach=True, network_mode="none", labels={"kind": "test"})


def archive(name: str, content: bytes) -> bytes:
    """A tar archive with one file."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as entries:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        entries.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def test_ping_version_info(client: DockerClient) -> None:
    assert client.ping() is True
    assert tuple(map(int, client.version()["ApiVersion"].split("."))) >= (1, 41)
    info = client.info()
    assert (info["OSType"], info["Driver"], info["ContainersRunning"]) == ("linux", "overlay2", 0)
    assert client.df()["Images"]


@pytest.mark.parametrize("version", [f"1.{minor}" for minor in range(41, 52)])
def test_every_version_of_the_api(client: DockerClient, url: str, version: str) -> None:
    with closing(docker.DockerClient(url, version=version, timeout=30)) as other:
        assert other.api.api_version == version
        volume = other.volumes.create("kept")
        words = ["sh", "-c", "echo said | tee /data/file"]
        container = other.containers.create(
            "lab", words, name="one", network_mode="none", volumes={"kept": {"bind": "/data", "mode": "rw"}}
        )
        container.start()
        assert container.wait(timeout=30)["StatusCode"] == 0
        assert container.logs() == b"said\n"
        assert [found.name for found in other.containers.list(all=True, filters={"status": "exited"})] == ["one"]
        container.reload()
        [mount] = container.attrs["Mounts"]
        assert (mount["Name"], mount["Destination"]) == ("kept", "/data")
        container.remove()
        volume.remove()
    assert client.containers.list(all=True) == []


def test_events(client: DockerClient) -> None:
    began = int(time.time())
    client.containers.run("lab", ["true"], network_mode="none", name="told", remove=True)
    wanted = {"type": "container", "container": "told"}
    told = client.events(since=began, until=int(time.time()) + 2, filters=wanted, decode=True)
    actions = [event["Action"] for event in told]
    assert [action for action in actions if action in ("create", "start", "die", "destroy")] == [
        "create", "start", "die", "destroy",
    ]  # fmt: skip


def test_images_import_list_get_tag_remove(client: DockerClient) -> None:
    client.api.import_image_from_data(image.tar(), repository="imported", tag="v1")
    found = client.images.get("imported:v1")
    assert found.tag("imported", "v2") is True
    assert {"imported:v1", "imported:v2"} <= {tag for each in client.images.list() for tag in each.tags}
    assert [each.tags for each in client.images.list("imported", filters={"dangling": False})]
    assert found.history()[0]["Comment"] == "Imported from -"
    for tag in ("imported:v1", "imported:v2"):
        client.images.remove(tag)
    with pytest.raises(ImageNotFound):
        client.images.get("imported:v1")


def test_images_load(client: DockerClient) -> None:
    layer = image.tar()
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["echo", "loaded"], "Env": ["A=b"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer).hexdigest()}"]},
    }).encode()  # fmt: skip
    manifest = json.dumps([{"Config": "config.json", "RepoTags": ["loaded:v1"], "Layers": ["layer.tar"]}]).encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as entries:
        for name, content in (("config.json", config), ("layer.tar", layer), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entries.addfile(entry, io.BytesIO(content))
    [loaded] = client.images.load(packed.getvalue())
    assert loaded.tags == ["loaded:v1"]
    assert client.containers.run("loaded:v1", network_mode="none", remove=True) == b"loaded\n"
    client.images.remove("loaded:v1")


def test_images_prune(client: DockerClient) -> None:
    client.api.import_image_from_data(archive("one", b"1"), repository="once", tag="v1")
    gone = client.images.get("once:v1").id
    client.api.import_image_from_data(archive("two", b"2"), repository="once", tag="v1")
    assert any(each.get("Deleted") == gone for each in client.images.prune()["ImagesDeleted"])
    client.images.remove("once:v1")


def test_run_returns_what_was_said_and_raises_what_failed(client: DockerClient) -> None:
    assert client.containers.run("lab", ["echo", "hello"], network_mode="none", remove=True) == b"hello\n"
    with pytest.raises(docker.errors.ContainerError) as failure:
        client.containers.run("lab", ["sh", "-c", "echo wrong >&2; exit 3"], network_mode="none", remove=True)
    assert (failure.value.exit_status, failure.value.stderr) == (3, b"wrong\n")


def test_create_start_wait_logs_remove(client: DockerClient) -> None:
    made = client.containers.create("lab", ["sh", "-c", "echo out; echo err >&2; exit 4"], network_mode="none")
    assert made.status == "created"
    made.start()
    assert made.wait()["StatusCode"] == 4
    assert made.logs(stderr=False) == b"out\n"
    assert made.logs(stdout=False) == b"err\n"
    made.remove()
    with pytest.raises(NotFound):
        client.containers.get(made.id)


def test_options_of_create(client: DockerClient) -> None:
    script = (
        "echo $A; pwd; hostname; id -u; grep CapBnd /proc/self/status; ulimit -n; touch /t/x; touch /x 2>&1 || true"
    )
    told = client.containers.run(
        "lab", ["-c", script], entrypoint="sh", environment={"A": "b"}, working_dir="/tmp", hostname="named",
        user="nobody", cap_drop=["ALL"], read_only=True, tmpfs={"/t": "mode=1777"}, mem_limit="64m", pids_limit=50,
        nano_cpus=500_000_000, network_mode="none", volumes={"/etc/hostname": {"bind": "/host", "mode": "ro"}},
        ulimits=[docker.types.Ulimit(name="nofile", soft=100, hard=200)], security_opt=["no-new-privileges"],
        sysctls={"net.ipv4.ip_forward": "0"}, init=False, labels=["l"], stdout=True, stderr=True, remove=True,
        restart_policy={"Name": "no"},
    ).decode()  # fmt: skip
    assert told.splitlines()[:5] == ["b", "/tmp", "named", "99", "CapBnd:\t0000000000000000"]
    assert told.splitlines()[-2:] == ["100", "touch: /x: Read-only file system"]


def test_list_by_filters(client: DockerClient, idle: Container) -> None:
    def names(**filters: object) -> list[str]:
        return [each.name for each in client.containers.list(all=True, filters=filters)]

    assert names(name="idle") == names(status="running") == names(label="kind=test") == names(id=idle.id) == ["idle"]
    assert names(status="exited") == names(label="kind=other") == []
    assert client.containers.list(all=True, filters={"ancestor": "lab"})[0].image.tags == ["lab:latest"]


def test_stop_kill_restart(client: DockerClient, idle: Container) -> None:
    first = idle.attrs["State"]["StartedAt"]
    idle.restart(timeout=0)
    idle.reload()
    assert (idle.status, idle.attrs["State"]["StartedAt"] != first) == ("running", True)
    idle.stop(timeout=0)
    assert idle.wait()["StatusCode"] == 137
    idle.start()
    idle.kill("KILL")
    assert idle.wait(condition="not-running")["StatusCode"] == 137
    with pytest.raises(APIError, match="is not running"):
        idle.kill()


def test_pause_rename_update(client: DockerClient, idle: Container) -> None:
    idle.pause()
    idle.reload()
    assert idle.status == "paused"
    idle.unpause()
    idle.rename("other")
    idle.update(mem_limit="64m", memswap_limit="128m", restart_policy={"Name": "on-failure", "MaximumRetryCount": 2})
    idle.reload()
    assert (idle.name, idle.status, idle.attrs["HostConfig"]["Memory"]) == ("other", "running", 64 << 20)


def test_logs_since_tail_timestamps_follow(client: DockerClient) -> None:
    said = client.containers.run(
        "lab", ["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done"], network_mode="none", detach=True
    )
    assert b"".join(said.logs(stream=True, follow=True)) == b"1\n2\n3\n"
    assert said.logs(tail=1) == b"3\n"
    assert said.logs(timestamps=True, tail=1).decode().split()[1] == "3"
    assert said.logs(since=int(time.time()) + 60) == b""


def test_attach(client: DockerClient) -> None:
    made = client.containers.create("lab", ["cat"], stdin_open=True, network_mode="none")
    stream = made.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    made.start()
    connection: socket.socket = stream._sock
    connection.sendall(b"typed\n")
    assert connection.recv(100) == b"\x01\0\0\0\0\0\0\x06typed\n"
    connection.close()
    made.kill()


def test_attach_to_what_is_said(client: DockerClient) -> None:
    made = client.containers.create("lab", ["sh", "-c", "sleep 0.3; seq 3"], network_mode="none")
    pieces = made.attach(stream=True)
    made.start()
    assert b"".join(pieces) == b"1\n2\n3\n"


def test_exec(client: DockerClient, idle: Container) -> None:
    script = ["sh", "-c", "echo $A; pwd; id -u"]
    told = idle.exec_run(script, environment={"A": "b"}, workdir="/tmp", user="nobody")
    assert told == (0, b"b\n/tmp\n99\n")
    code, parts = idle.exec_run(["sh", "-c", "echo out; echo err >&2; exit 5"], demux=True)
    assert (code, parts) == (5, (b"out\n", b"err\n"))
    assert b"/dev/pts/" in idle.exec_run(["tty"], tty=True).output
    assert b"".join(idle.exec_run(["seq", "3"], stream=True).output) == b"1\n2\n3\n"


def test_exec_by_a_socket_with_a_terminal_that_is_resized(client: DockerClient, idle: Container) -> None:
    made = client.api.exec_create(idle.id, ["sh", "-c", "read x; stty size; echo got $x"], stdin=True, tty=True)
    connection: socket.socket = client.api.exec_start(made["Id"], tty=True, socket=True)._sock
    client.api.exec_resize(made["Id"], height=33, width=77)
    connection.sendall(b"typed\n")
    told = b""
    while part := connection.recv(100):
        told += part
    connection.close()
    assert b"33 77" in told
    assert b"got typed" in told
    assert client.api.exec_inspect(made["Id"])["ExitCode"] == 0


def test_resize_of_a_container(client: DockerClient) -> None:
    made = client.containers.run(
        "lab",
        ["sh", "-c", "trap 'stty size' WINCH; while sleep 0.1; do :; done"],
        tty=True,
        detach=True,
        network_mode="none",
    )
    made.resize(44, 88)
    deadline = time.monotonic() + 20
    while b"44 88" not in made.logs():
        assert time.monotonic() < deadline
        made.resize(44, 88)
        time.sleep(0.1)


def test_top_stats_diff(client: DockerClient, idle: Container) -> None:
    table = idle.top()
    assert [row[table["Titles"].index("CMD")] for row in table["Processes"]] == ["sleep 1000"]
    usage: dict[str, Any] = idle.stats(stream=False)
    assert usage["memory_stats"]["usage"] > 0
    assert usage["cpu_stats"]["cpu_usage"]["total_usage"] > 0
    idle.exec_run(["touch", "/made"])
    assert idle.diff() == [{"Path": "/made", "Kind": 1}]


def test_archives(client: DockerClient, idle: Container) -> None:
    assert idle.put_archive("/tmp", archive("sent", b"content")) is True
    assert idle.exec_run(["cat", "/tmp/sent"]).output == b"content"
    pieces, told = idle.get_archive("/tmp/sent")
    assert (told["name"], told["size"]) == ("sent", 7)
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as entries:
        content = entries.extractfile("sent")
        assert content is not None
        assert content.read() == b"content"
    with pytest.raises(NotFound):
        idle.get_archive("/nosuch")


def test_prune_containers(client: DockerClient, idle: Container) -> None:
    ended = client.containers.create("lab", ["true"], network_mode="none")
    assert client.containers.prune()["ContainersDeleted"] == [ended.id]
    assert [each.id for each in client.containers.list(all=True)] == [idle.id]


def test_networks(client: DockerClient, idle: Container) -> None:
    pool = docker.types.IPAMPool(subnet="10.61.0.0/24", gateway="10.61.0.1")
    made = client.networks.create(
        "n1", driver="pynet", ipam=docker.types.IPAMConfig(pool_configs=[pool]), labels={"a": "b"}
    )
    assert [each.name for each in client.networks.list(names=["n1"], filters={"driver": "pynet"})] == ["n1"]
    assert client.networks.get("n1").attrs["Labels"] == {"a": "b"}
    one = client.containers.create("lab", [*IDLE], network="n1", name="one")
    one.start()
    client.networks.create("n2", driver="pynet", internal=True).connect(one, aliases=["other"])
    one.reload()
    assert set(one.attrs["NetworkSettings"]["Networks"]) == {"n1", "n2"}
    made.reload()
    assert made.containers == [one]
    client.networks.get("n2").disconnect(one)
    one.reload()
    assert set(one.attrs["NetworkSettings"]["Networks"]) == {"n1"}
    assert client.networks.prune()["NetworksDeleted"] == ["n2"]
    with pytest.raises(APIError, match="has active endpoints"):
        made.remove()
    one.remove(force=True)
    made.remove()
    with pytest.raises(NotFound):
        client.networks.get("n1")


def test_volumes(client: DockerClient) -> None:
    made = client.volumes.create("v1", driver="pyvol", driver_opts={"size": "64M"}, labels={"a": "b"})
    assert [each.name for each in client.volumes.list(filters={"dangling": True})] == ["v1"]
    assert client.volumes.get("v1").attrs["Labels"] == {"a": "b"}
    mount = {"v1": {"bind": "/data", "mode": "rw"}}
    user = client.containers.run("lab", [*IDLE], volumes=mount, network_mode="none", detach=True)
    with pytest.raises(APIError, match="in use"):
        made.remove()
    user.remove(force=True)
    assert client.volumes.prune()["SpaceReclaimed"] == 0
    made.remove()
    with pytest.raises(NotFound):
        client.volumes.get("v1")


def test_plugins_are_listed(client: DockerClient) -> None:
    assert client.plugins.list() == []


def test_what_is_wrong_is_told_by_its_status(client: DockerClient) -> None:
    with pytest.raises(ImageNotFound):
        client.containers.create("nosuch", ["true"])
    with pytest.raises(NotFound):
        client.containers.get("nosuch")
    with pytest.raises(APIError) as failure:
        client.containers.create("lab", ["true"], mem_limit="1m")
    assert failure.value.status_code == 400
    client.containers.create("lab", ["true"], name="taken")
    with pytest.raises(APIError) as failure:
        client.containers.create("lab", ["true"], name="taken")
    assert failure.value.status_code == 409

"""Volumes of the bind backend: a folder of the host, only below the roots that the operator allowed."""

import pytest

from integration.lab.host import Host

NONE = ("--network", "none")


def create(host: Host, source: str) -> tuple[str, ...]:
    return "volume", "create", "-d", host.drivers.volume, "-o", "backend=bind", "-o", f"source={source}", "v1"


@pytest.fixture
def share(host: Host) -> str:
    host.run(
        "sh", "-c", f"rm -rf {host.allowed}/* && mkdir {host.allowed}/share && echo ours >{host.allowed}/share/file"
    )
    return f"{host.allowed}/share"


def test_the_folder_is_the_volume(host: Host, share: str) -> None:
    host.docker(*create(host, share))
    assert host.once("cat /data/file && echo theirs >/data/new", *NONE, "-v", "v1:/data") == "ours"
    assert host.run("cat", f"{share}/new") == "theirs\n"


def test_removal_keeps_the_folder(host: Host, share: str) -> None:
    host.docker(*create(host, share))
    host.once("true", *NONE, "-v", "v1:/data")
    host.docker("volume", "rm", "v1")
    assert host.run("cat", f"{share}/file") == "ours\n"


@pytest.mark.usefixtures("share")
@pytest.mark.parametrize("source", ["/etc", "{allowed}/../elsewhere", "{allowed}x", "share", "/"])
def test_a_folder_elsewhere_is_refused(host: Host, source: str) -> None:
    source = source.format(allowed=host.allowed)
    said = host.docker_error(*create(host, source))
    assert source in said
    assert host.docker("volume", "ls", "-q") == ""


def test_a_link_that_leads_out_is_refused(host: Host, share: str) -> None:
    host.run("ln", "-s", "/etc", f"{share}/way-out")
    assert "way-out" in host.docker_error(*create(host, f"{share}/way-out"))


def test_a_link_that_is_put_there_later_is_refused_too(host: Host, share: str) -> None:
    host.docker(*create(host, share))
    host.run("sh", "-c", f"rm -r {share} && ln -s /etc {share}")
    said = host.docker_error("run", "--rm", *NONE, "-v", "v1:/data", "lab", "cat", "/data/passwd")
    assert "share" in said


def test_a_size_is_refused_for_it(host: Host, share: str) -> None:
    argv = create(host, share)
    assert "size" in host.docker_error(*argv[:-1], "-o", "size=64M", argv[-1])


def test_two_containers_and_a_restart(host: Host, share: str) -> None:
    host.docker(*create(host, share))
    host.idle("ann", *NONE, "-v", "v1:/data")
    host.idle("bob", *NONE, "-v", "v1:/data")
    host.docker("rm", "-f", "ann")
    host.docker("restart", "-t", "0", "bob")
    assert host.sh("bob", "cat /data/file") == "ours"


def test_the_local_drivers_spelling(host: Host, share: str) -> None:
    local = ("-o", "type=none", "-o", "o=bind,ro", "-o", f"device={share}")
    host.docker("volume", "create", "-d", host.drivers.volume, *local, "v1")
    said = host.once("cat /data/file; touch /data/new 2>&1; true", *NONE, "-v", "v1:/data")
    assert said.startswith("ours\n")
    assert "Read-only" in said


def test_a_folder_is_made_and_stays(host: Host, share: str) -> None:
    argv = create(host, f"{share}/deep/down")
    host.docker_error(*argv)
    host.docker(*argv[:-1], "-o", "create=true", "-o", "uid=70", "-o", "mode=700", "v1")
    assert host.once("stat -c %u:%a /data && echo kept >/data/file", *NONE, "-v", "v1:/data") == "70:700"
    host.docker("volume", "rm", "v1")
    assert host.run("cat", f"{share}/deep/down/file") == "kept\n"


def test_a_folder_for_each_volume(host: Host, share: str) -> None:
    for name in ("v1", "v2"):
        host.docker(*create(host, share)[:-1], "-o", "subdir_per_volume=true", name)
        host.once(f"echo {name} >/data/name", *NONE, "-v", f"{name}:/data")
    for name in ("v1", "v2"):
        host.docker("volume", "rm", name)
        assert host.run("cat", f"{share}/{name}/name") == f"{name}\n"

"""Images: loaded from both kinds of archive, named, removed; hostile archives refused. All by the docker CLI."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.runtime.machine import Machine
from tests.runtime.test_containers import NO_NETWORK


def layer(*entries: tuple[str, bytes, str]) -> bytes:
    """A tar archive of (name, type, text or target)."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, kind, text in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = kind, 0o755
            if kind == tarfile.REGTYPE:
                entry.size = len(text)
            else:
                entry.linkname = text
            archive.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


def file(name: str, text: str) -> tuple[str, bytes, str]:
    return (name, tarfile.REGTYPE, text)


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def configuration(*layers: bytes) -> bytes:
    content = {
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["cat", "/kept", "/new"], "Env": ["A=b"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(each) for each in layers]},
    }  # fmt: skip
    return json.dumps(content).encode()


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as packed:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
    return path


def docker_archive(path: Path, config: bytes, *layers: bytes, name: str = "built:1") -> Path:
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": names}]
    files = {"manifest.json": json.dumps(manifest).encode(), "config.json": config}
    return archive(path, {**files, **dict(zip(names, layers, strict=True))})


@pytest.fixture
def base(machine: Machine) -> bytes:
    """A layer in which programs can run: the machine's image."""
    return (machine.root / "lab.tar").read_bytes()


def upper() -> tuple[bytes, bytes]:
    middle = layer(file("kept", "kept\n"), file("gone", "x"), ("dir", tarfile.DIRTYPE, ""), file("dir/old", "x"))
    top = layer(file(".wh.gone", ""), file("new", "new\n"), ("dir", tarfile.DIRTYPE, ""), file("dir/.wh..wh..opq", ""),
                file("dir/fresh", "y"))  # fmt: skip
    return middle, top


def test_layers_lie_over_each_other(machine: Machine, base: bytes, tmp_path: Path) -> None:
    layers = (base, *upper())
    packed = docker_archive(tmp_path / "a.tar", configuration(*layers), *layers)
    assert machine.docker("load", "-i", str(packed)) == "Loaded image: built:1"
    assert machine.docker("run", "--rm", *NO_NETWORK, "built:1") == "kept\nnew"
    assert machine.docker(
        "run", "--rm", *NO_NETWORK, "built:1", "sh", "-c", "ls /dir; ls /gone 2>&1 | wc -l; echo $A"
    ) == ("fresh\n1\nb")
    machine.docker("tag", "built:1", "other")
    assert machine.docker("rmi", "built:1") == "Untagged: built:1"
    machine.docker("create", "--name", "uses", *NO_NETWORK, "other")
    assert machine.try_docker("rmi", "other").returncode == 1
    machine.docker("rm", "uses")
    folders = set((machine.root / "pyrun" / "layers").iterdir())
    assert "Deleted: sha256:" in machine.docker("rmi", "other")
    # The layer that the machine's own image has, too, stays.
    assert len(folders - set((machine.root / "pyrun" / "layers").iterdir())) == 2
    assert machine.docker("images", "-q", "other") == ""


def test_an_oci_layout_is_loaded_and_checked(machine: Machine, base: bytes, tmp_path: Path) -> None:
    layers = (base, *upper())
    config = configuration(*layers)
    blobs = [gzip.compress(each) for each in layers]
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "config": {"digest": digest(config)},
            "layers": [{"digest": digest(each)} for each in blobs],
        }
    ).encode()
    index = {
        "manifests": [
            {"digest": digest(manifest), "annotations": {"io.containerd.image.name": "docker.io/library/oci:2"}}
        ]
    }
    files = {f"blobs/{digest(each).replace(':', '/')}": each for each in (config, manifest, *blobs)}
    packed = archive(tmp_path / "oci.tar", {"index.json": json.dumps(index).encode(), **files})
    assert machine.docker("load", "-i", str(packed)) == "Loaded image: oci:2"
    assert machine.docker("run", "--rm", *NO_NETWORK, "oci:2") == "kept\nnew"
    machine.docker("rmi", "oci:2")
    files[f"blobs/{digest(config).replace(':', '/')}"] = config.replace(b"A=b", b"A=c")
    packed = archive(tmp_path / "oci.tar", {"index.json": json.dumps(index).encode(), **files})
    assert "another digest" in machine.try_docker("load", "-i", str(packed)).stderr


HOSTILE = {
    "it leads out": [file("../../escaped", "x")],
    "is no directory": [("out", tarfile.SYMTYPE, "/"), file("out/escaped", "x")],
    "which is not there": [("hard", tarfile.LNKTYPE, "/etc/shadow")],
    "leads out of the archive": [("hard", tarfile.LNKTYPE, "../../../../../../etc/shadow")],
    "a device": [("disk", tarfile.BLKTYPE, "")],
    "root is no directory": [("/", tarfile.SYMTYPE, "/etc")],
}


@pytest.mark.parametrize(("reason", "entries"), HOSTILE.items(), ids=HOSTILE.keys())
def test_hostile_archives_are_refused_whole(
    machine: Machine, tmp_path: Path, reason: str, entries: list[tuple[str, bytes, str]]
) -> None:
    folders = set((machine.root / "pyrun" / "layers").iterdir())
    bad = layer(*entries)
    for arguments in (
        ("load", "-i", str(docker_archive(tmp_path / "bad.tar", configuration(bad), bad, name="bad"))),
        ("import", str(archive_of(tmp_path / "layer.tar", bad)), "bad"),
    ):
        assert reason in machine.try_docker(*arguments).stderr
    assert set((machine.root / "pyrun" / "layers").iterdir()) == folders
    assert not list((machine.root / "pyrun" / "spool").iterdir())
    assert machine.docker("images", "-q", "bad") == ""


def archive_of(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_damaged_archives_are_refused(machine: Machine, tmp_path: Path) -> None:
    one, other = layer(file("one", "x")), layer(file("other", "x"))
    changed = docker_archive(tmp_path / "a.tar", configuration(one), other, name="bad")
    assert "has the digest" in machine.try_docker("load", "-i", str(changed)).stderr
    for number, content in enumerate((b"nonsense" * 200, gzip.compress(b"x" * 4000)[:20], b"")):
        broken = archive_of(tmp_path / f"{number}.tar", content)
        assert "cannot" in machine.try_docker("load", "-i", str(broken)).stderr
    assert machine.try_docker("import", str(archive_of(tmp_path / "n.tar", b"nonsense" * 200))).returncode == 1


def test_an_archive_larger_than_the_disk_is_refused(machine: Machine, tmp_path: Path) -> None:
    entry = tarfile.TarInfo("bomb")
    entry.size = 1 << 50
    packed = archive_of(tmp_path / "bomb.tar", entry.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    assert "are available" in machine.try_docker("import", str(packed), "bomb").stderr

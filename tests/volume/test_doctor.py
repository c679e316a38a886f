"""`pyvol doctor`: each thing that can be wrong is broken, seen with cause and cure, and healed, by it or by that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.serving import until
from tests.volume.administrator import PYVOL, Administrator
from tests.volume.conftest import attached_below, mounted_below
from tests.volume.serving import Service
from volplugin.admin.engine import EngineView
from volplugin.doctor.examine import Sight, examine
from volplugin.doctor.wire import ServiceAnswer

MEBIBYTE = 1 << 20
Found = dict[str, str]


class Patient:
    """A pyvol beside which no engine runs, and its doctor."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.service = Service(directory, "--reconcile-every", "3600", *options)
        self.admin = Administrator(self.service)
        self.state_dir = self.service.state_dir

    def doctor(self, *words: str) -> Found:
        """Return what the doctor finds, each with its cure; that there is no engine is not worth a word."""
        done = self.admin.done("doctor", "--engine", "/nonexistent", "--json", *words)
        assert done.stderr == ""
        found = {each["what"]: each["cure"] for each in json.loads(done.stdout)}
        assert done.returncode == 1
        assert found.pop("no engine could be asked what it knows") == "say where it is: --engine SOCKET"
        return found

    def create(self, name: str = "v", **options: str) -> Path:
        """Return the file of a new volume."""
        self.service.call("Create", Name=name, Opts={"size": "32M", **options})
        return self.state_dir / "volumes" / name / f"image.{options.get('fs', 'ext4')}"

    def mount(self, name: str = "v") -> Path:
        return Path(self.service.call("Mount", Name=name, ID="c")["Mountpoint"])

    def unmount(self, name: str = "v") -> None:
        self.service.call("Unmount", Name=name, ID="c")


@pytest.fixture
def patient(mount_namespace: None, tmp_path: Path) -> Iterator[Patient]:
    patient = Patient(tmp_path)
    yield patient
    patient.service.kill()


def test_two_names_of_one_pyvol_are_nothing_and_two_pyvol_are_told() -> None:
    view = EngineView({"v": ("ann",)}, frozenset({"v"}), frozenset({"pyvol", "pyvol:managed"}))
    service = ServiceAnswer("0", (), None, ("v",), (), (), (), (), 100, 50, 0, 1.0)
    assert examine(Sight(service, view, view)) == []
    lost, second = examine(Sight(replace(service, Names=()), view, view))
    assert lost.what == "container ann has the volume v, of which pyvol knows nothing"
    assert (second.level, second.what) == (
        "note",
        "there are volumes of several pyvol on this host: pyvol, pyvol:managed",
    )


def one(found: Found) -> tuple[str, str]:
    [(what, cure)] = found.items()
    return what, cure


def test_who_is_well_is_told_so(patient: Patient) -> None:
    for fs, size in (("ext4", "32M"), ("xfs", "320M"), ("btrfs", "128M")):
        patient.create(fs, fs=fs, size=size)
        patient.mount(fs)
    patient.create("unused")
    patient.admin.run("snapshot", "create", "ext4@s")
    assert patient.doctor() == {}
    told = patient.admin.done("doctor", "--engine", "/nonexistent").stdout
    assert told == "warning: no engine could be asked what it knows\n    say where it is: --engine SOCKET\n"
    for fs in ("ext4", "xfs", "btrfs"):
        patient.unmount(fs)
    assert patient.doctor() == {}


def test_a_mount_and_its_device_that_somebody_took(patient: Patient) -> None:
    patient.create()
    place = patient.mount()
    subprocess.run(["umount", place.parent], check=True)
    until(lambda: attached_below(patient.state_dir) == [], "the device to go")
    what, cure = one(patient.doctor())
    assert what == "v is in use, and its loop device is not there"
    assert cure.startswith("--fix puts it back")
    assert patient.doctor("--fix") == {}
    assert mounted_below(patient.service.mount_root) == [str(place.parent)]
    patient.unmount()


def test_devices_and_mounts_that_nobody_wants(patient: Patient) -> None:
    image = patient.create()
    subprocess.run(["losetup", "--find", image], check=True)
    point = patient.service.mount_root / "stray"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", point], check=True)
    assert sorted(patient.doctor()) == [
        f"there is a loop device on {image} that no volume wants",
        f"there is a mount at {point} that no volume wants",
    ]
    assert patient.doctor("--fix") == {}
    assert (attached_below(patient.state_dir), mounted_below(patient.service.mount_root)) == ([], [])


def test_a_file_that_is_gone_or_too_short(patient: Patient) -> None:
    image = patient.create()
    image.rename(image.with_name("away"))
    found = patient.doctor("--fix")
    assert "pyvol snapshot restore" in found[f"the file of v is gone: {image}"]
    image.with_name("away").rename(image)
    assert patient.doctor() == {}
    saved = image.read_bytes()
    os.truncate(image, 16 * MEBIBYTE)
    found = patient.doctor()
    assert "put it back" in found[f"the file of v has 16MiB and should have 32MiB: {image}"]
    image.write_bytes(saved)
    assert patient.doctor() == {}


def test_a_file_that_is_none_is_no_reason_not_to_look_at_others(patient: Patient) -> None:
    image = patient.create()
    away = patient.create("w").with_name("away")
    image.rename(away)
    image.mkdir()
    found = patient.doctor()
    assert found.pop(f"v: cannot read the superblock of {image}: Is a directory (EISDIR)").startswith(
        "look at what it names"
    )
    assert one(found)[0] == f"there is a file that is none of pyvol's: {away}"
    image.rmdir()
    away.rename(image)
    assert patient.doctor() == {}


def test_a_file_that_is_deleted_while_it_is_in_use_can_be_saved(patient: Patient, tmp_path: Path) -> None:
    image = patient.create()
    (patient.mount() / "file").write_text("kept")
    os.sync()
    image.unlink()
    found = patient.doctor()
    cure = found[f"the file of v was deleted or replaced while it is in use: {image}"]
    command = cure.partition(": ")[2].replace("FILE", str(tmp_path / "saved")).split()
    subprocess.run(command, check=True, capture_output=True)
    patient.service.ask("VolumeDriver.Unmount", {"Name": "v", "ID": "c"})
    shutil.move(tmp_path / "saved", image)
    assert set(patient.doctor("--fix")) == {"v was not unmounted cleanly"}
    assert (patient.mount() / "file").read_text() == "kept"
    patient.unmount()


def test_damage_that_the_kernel_has_noticed(patient: Patient) -> None:
    image = patient.create()
    patient.mount()
    [device] = attached_below(patient.state_dir)
    Path(f"/sys/fs/ext4/{Path(device).name}/trigger_fs_error").write_text("a test of ours")
    what, cure = one(patient.doctor("--fix"))
    assert (what, f"e2fsck -f {image}" in cure) == ("the kernel has found damage in v", True)
    patient.unmount()
    assert list(patient.doctor()) == ["the kernel has found damage in v"]
    subprocess.run(["e2fsck", "-fy", image], capture_output=True, check=False)
    assert patient.doctor() == {}


def test_what_was_not_unmounted_and_what_became_read_only(patient: Patient) -> None:
    image = patient.create()
    (patient.mount() / "file").write_text("x")
    os.sync()
    copy = image.read_bytes()
    subprocess.run(["mount", "-o", "remount,ro", patient.service.mount_root / "v"], check=True)
    what, cure = one(patient.doctor())
    assert what == "v was made read-only by the kernel, as after an error of the disk"
    assert "pyvol check v" in cure
    patient.unmount()
    image.write_bytes(copy)
    what, cure = one(patient.doctor())
    assert (what, cure.startswith("its next mount checks it")) == ("v was not unmounted cleanly", True)
    patient.mount()
    patient.unmount()
    assert patient.doctor() == {}


def test_a_filesystem_that_somebody_froze(patient: Patient) -> None:
    patient.create()
    place = patient.mount()
    subprocess.run(["fsfreeze", "--freeze", place.parent], check=True)
    try:
        for _ in range(2):
            what, cure = one(patient.doctor())
            assert (what, cure) == (
                "v is frozen: whoever writes to it waits",
                "--fix lets it go; see who runs fsfreeze",
            )
        assert patient.doctor("--fix") == {}
        subprocess.run(["touch", place / "file"], check=True, timeout=20)
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", place.parent], check=False, capture_output=True)
    patient.unmount()


def test_a_change_that_was_cut_short(patient: Patient) -> None:
    patient.create()
    with (patient.mount() / "file").open("w"):
        status, answer = patient.service.ask("VolumeDriver.Unmount", {"Name": "v", "ID": "c"})
        assert status == 500, answer
        assert "--fix finishes or undoes it" in patient.doctor()["a change of attachment v was cut short"]
    assert [what for what in patient.doctor("--fix") if not what.startswith("the last thing refused for v: ")] == []
    assert mounted_below(patient.service.mount_root) == []


def test_what_the_last_check_could_not_put_right(patient: Patient) -> None:
    image = patient.create()
    patient.mount()
    patient.service.kill()
    subprocess.run(["umount", patient.service.mount_root / "v"], check=True)
    image.rename(image.with_name("away"))
    patient.service.start()
    found = patient.doctor("--fix")
    assert [what for what in found if what.startswith(f"not as recorded: cannot use {image}")]
    image.with_name("away").rename(image)
    assert patient.doctor("--fix") == {}
    patient.unmount()


def test_what_should_have_left_the_trash(mount_namespace: None, tmp_path: Path) -> None:
    patient = Patient(tmp_path, "--trash", "1s")
    try:
        patient.create()
        patient.service.call("Remove", Name="v")
        time.sleep(1.5)
        what, cure = one(patient.doctor())
        assert what.startswith("v~")
        assert what.endswith("should have left the trash")
        assert "pyvol trash empty v~" in cure
        assert patient.doctor("--fix") == {}
        assert "v~" not in patient.admin.run("trash", "ls")
    finally:
        patient.service.kill()


def test_programs_that_are_not_installed(patient: Patient) -> None:
    patient.create(fs="xfs", size="320M")
    program = shutil.which("xfs_repair", path="/usr/sbin:/sbin")
    assert program is not None
    subprocess.run(["mount", "--bind", "/dev/null", program], check=True)
    try:
        # The plugin is in this mount namespace, too.
        expected = "the program xfs_repair is not installed: what needs it fails", "apt-get install xfsprogs"
        assert one(patient.doctor()) == expected
    finally:
        subprocess.run(["umount", program], check=True)
    assert patient.doctor() == {}


def test_keys_that_are_gone_or_everybodys(patient: Patient) -> None:
    key = patient.state_dir / "keys" / "k"
    key.parent.mkdir()
    key.write_bytes(os.urandom(64))
    key.chmod(0o600)
    patient.create(encrypt="true", key_file=str(key))
    assert patient.doctor() == {}
    key.chmod(0o644)
    what, cure = one(patient.doctor())
    assert what == f"v: cannot use key_file={key}: not only root may read it; chmod 600 {key}"
    assert cure.startswith("--fix takes the right from them")
    assert patient.doctor("--fix") == {}
    assert key.stat().st_mode & 0o777 == 0o600
    key.rename(key.with_name("away"))
    what, cure = one(patient.doctor("--fix"))
    assert what.startswith(f"v: cannot read the key {key}: No such file")
    assert "pyvol set v key_file=PATH" in cure
    key.with_name("away").rename(key)
    assert patient.doctor() == {}


def test_a_state_directory_that_is_a_disk_of_its_own(mount_namespace: None, tmp_path: Path) -> None:
    disk, state = tmp_path / "disk", tmp_path / "state"
    with disk.open("wb") as file:
        file.truncate(64 * MEBIBYTE)
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    state.mkdir()
    subprocess.run(["mount", "-o", "loop", disk, state], check=True)
    patient = Patient(tmp_path)
    try:
        assert (state / "lost+found").is_dir()
        assert patient.doctor() == {}
    finally:
        patient.service.kill()


def test_files_that_are_not_pyvols(patient: Patient) -> None:
    image = patient.create()
    orphan = patient.state_dir / "volumes/lost/image.ext4"
    orphan.parent.mkdir()
    shutil.copy(image, orphan)
    for note in (image.with_name("notes.txt"), patient.state_dir / "backup.tar"):
        note.touch()
    found = patient.doctor("--fix")
    assert f"mount -o loop,ro {orphan}" in found.pop(f"there is data of a volume that no record knows: {orphan}")
    assert set(found.values()) == {"move it elsewhere"}
    assert sorted(found) == [
        f"there is a file that is none of pyvol's: {patient.state_dir / 'backup.tar'}",
        f"there is a file that is none of pyvol's: {image.with_name('notes.txt')}",
    ]
    shutil.rmtree(orphan.parent)
    for note in (image.with_name("notes.txt"), patient.state_dir / "backup.tar"):
        note.unlink()
    assert patient.doctor() == {}


def test_a_disk_that_is_nearly_full_and_promises_that_it_cannot_keep(mount_namespace: None, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96M", "none", tmp_path / "state"], check=True)
    patient = Patient(tmp_path)
    try:
        patient.create()
        assert patient.doctor() == {}
        big = patient.state_dir / "volumes" / "big"
        big.write_bytes(bytes(92 * MEBIBYTE))
        found = patient.doctor()
        del found[f"there is a file that is none of pyvol's: {big}"]
        assert len(found) == 2, found
        full, promised = sorted(found)
        assert full.startswith("the disk of the volumes has ")
        assert full.endswith("of 96.0MiB available")
        assert promised.startswith("volumes may still grow by ")
        assert all("pyvol trim" in cure for cure in found.values())
        big.unlink()
        assert patient.doctor() == {}
    finally:
        patient.service.kill()


def test_what_is_copied_just_now_is_left_alone(patient: Patient) -> None:
    """Also that it looks at a volume that is being changed without waiting for the end."""
    patient.create(size="256M")
    (patient.mount() / "file").write_bytes(os.urandom(128 * MEBIBYTE))
    snapshot = subprocess.Popen([PYVOL, "snapshot", "create", "v@s", "--state-dir", patient.state_dir])
    while snapshot.poll() is None:
        assert patient.doctor() == {}
    assert snapshot.returncode == 0
    patient.unmount()

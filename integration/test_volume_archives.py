"""Archives of volumes that containers write to."""

import json
import random
from pathlib import Path

import pytest

from integration.lab import image
from integration.lab.deadline import wait_for
from integration.lab.host import Host
from integration.test_volume_admin import NONE, create, pyvol

# Records of one line, each with its digest. "count" says how many there are for sure; it comes by a rename.
WRITER = """
i=0
while true; do
    line="$i $(head -c 3000 /dev/urandom | md5sum | cut -c1-32)"
    echo "$line $(echo "$line" | md5sum | cut -c1-32)" >>/data/log
    sync
    i=$((i + 1))
    echo $i >/data/count.new && mv /data/count.new /data/count
done
"""
READER = """
n=0
while read -r i random digest; do
    [ "$i" = $n ] || { echo "record $n is missing"; exit 1; }
    [ "$(echo "$i $random" | md5sum | cut -c1-32)" = "$digest" ] || { echo "record $n is damaged"; exit 1; }
    n=$((n + 1))
done </data/log
[ $n -ge "$(cat /data/count)" ] || { echo "only $n of $(cat /data/count)"; exit 1; }
echo $n
"""
CHECKS = {"ext4": ("e2fsck", "-fn"), "xfs": ("xfs_repair", "-n"), "btrfs": ("btrfs", "check", "--readonly")}


@pytest.mark.everywhere
@pytest.mark.parametrize(("fs", "size"), [("ext4", 64), ("xfs", 320), ("btrfs", 128)])
def test_a_backup_of_a_volume_that_is_being_written(host: Host, tmp_path: Path, fs: str, size: int) -> None:
    create(host, "v1", f"fs={fs}", f"size={size}M")
    host.docker("run", "-d", "--name", "ann", *NONE, "-v", "v1:/data", image.NAME, "sh", "-c", WRITER)

    def count() -> int:
        return int(host.sh("ann", "cat /data/count 2>/dev/null || echo 0"))

    wait_for("three records", lambda: count() >= 3)
    archive, before = tmp_path / "archive", count()
    said = pyvol(host, "backup", "v1", "--to", str(archive))
    reached = count()
    wait_for("the writer to go on", lambda: count() > reached)
    host.docker("rm", "-f", "ann")
    assert pyvol(host, "restore", str(archive), "--as", "v2").split()[-1] == said.split()[-1]
    records = int(host.once(READER, *NONE, "-v", "v2:/data"))
    assert before <= records <= reached + 1
    host.run(*CHECKS[fs], str(host.root / "pyvol" / "volumes" / "v2" / f"image.{fs}"))


def test_a_damaged_archive_is_refused(host: Host, tmp_path: Path) -> None:
    create(host, "v1", "size=16M")
    archive, damaged = tmp_path / "archive", tmp_path / "damaged"
    pyvol(host, "backup", "v1", "--to", str(archive))
    whole = archive.read_bytes()
    for content in (whole[: random.randrange(len(whole))], whole + whole[:1], whole[:-50] + bytes(50)):
        damaged.write_bytes(content)
        with pytest.raises(AssertionError, match="cannot use the archive"):
            pyvol(host, "restore", str(damaged), "--as", "v2")
    assert host.docker("volume", "ls", "-q").split() == ["v1"]
    assert [path.name for path in (host.root / "pyvol" / "volumes").glob("[!.]*/*")] == ["image.ext4"]


def test_two_volumes_at_one_instant_and_one_at_set_times(host: Host) -> None:
    for name in ("v1", "v2"):
        create(host, name, "size=16M")
    host.idle("ann", *NONE, "-v", "v1:/one", "-v", "v2:/two")
    writing = "i=0; while true; do i=$((i + 1)); echo $i >/one/n; sync; echo $i >/two/n; sync; done"
    host.docker("exec", "-d", "ann", "sh", "-c", writing)
    wait_for("numbers", lambda: host.sh("ann", "cat /two/n"))
    said = pyvol(host, "snapshot", "create", "v1@s", "v2@s")
    assert "who wrote had to wait for" in said
    try:
        for name in ("v1", "v2"):
            create(host, f"{name}copy", f"from={name}@s")
        one, two = host.once("cat /one/n /two/n", *NONE, "-v", "v1copy:/one", "-v", "v2copy:/two").split()
        assert int(two) <= int(one) <= int(two) + 1
        pyvol(host, "schedule", "set", "v1", "4h:1d:2w")
        [told] = json.loads(host.docker("volume", "inspect", "v1"))
        assert told["Status"]["schedule"] == "4h:1d:2w"
        host.docker("rm", "-f", "ann")
    finally:
        pyvol(host, "schedule", "rm", "v1")
        for line in pyvol(host, "snapshot", "ls").splitlines()[1:]:
            pyvol(host, "snapshot", "rm", line.split()[0])

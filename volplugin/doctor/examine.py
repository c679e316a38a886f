"""What is wrong with the volumes of a host, with cause and cure. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pluginkit.doctor.findings import Finding, worst_first
from volplugin.admin.engine import EngineView
from volplugin.doctor.wire import ServiceAnswer, VolumeFacts
from volplugin.records import OWN_CALLER
from volplugin.values import format_size, rough_size

# Fixes. reconcile: records and kernel agree again. thaw, close-key: of a volume. detach: nobody has the volume.
RECONCILE, THAW, CLOSE_KEY, DETACH = "reconcile", "thaw", "close-key", "detach"
_FULL = 0.05
_PACKAGES = {"mkfs.xfs": "xfsprogs", "mkfs.btrfs": "btrfs-progs", "btrfs": "btrfs-progs", "btrfstune": "btrfs-progs"}
_PACKAGES |= dict.fromkeys(("xfs_growfs", "xfs_repair", "xfs_db"), "xfsprogs")
_PACKAGES |= dict.fromkeys(("mkfs.ext4", "e2fsck", "resize2fs", "tune2fs"), "e2fsprogs")
_PACKAGES |= {"fsfreeze": "util-linux", "timeout": "coreutils", "cat": "coreutils", "sh": "dash"}
_AS_IT_WAS = "put it back, or: pyvol snapshot restore, pyvol restore; docker volume rm {name} gives it up"


@dataclass(frozen=True)
class Sight:
    """All that was looked at. before, after: the engines, looked at around the rest; None: they could not be asked."""

    service: ServiceAnswer
    before: EngineView | None
    after: EngineView | None


def examine(sight: Sight) -> list[Finding]:
    """Return what was found, the worst first."""
    volumes = [finding for volume in sight.service.Volumes for finding in _volume(volume)]
    service = sight.service
    return worst_first([*_records(service), *volumes, *_strays(service), *_disk(service), *_engine(sight)])


def stale(sight: Sight) -> dict[str, VolumeFacts]:
    """Return the volumes that are mounted for somebody, and that no container of any engine has running."""
    before, after = sight.before, sight.after
    if before is None or after is None:
        return {}
    return {
        volume.Name: volume
        for volume in sight.service.Volumes
        if set(volume.Mounts) - {OWN_CALLER} and volume.Name not in before.busy | after.busy
    }


def together(views: Sequence[EngineView]) -> EngineView:
    """Return what several engines know, as of one."""
    users: dict[str, tuple[str, ...]] = {}
    for view in views:
        for name, containers in view.users.items():
            users[name] = (*users.get(name, ()), *containers)
    return EngineView(
        users, frozenset().union(*(view.busy for view in views)), frozenset().union(*(view.drivers for view in views))
    )


def _records(service: ServiceAnswer) -> Iterator[Finding]:
    last = service.LastReconcile
    for failure in last.Failures if last else ():
        cure = "--fix tries again; what it names is in the way"
        yield Finding("fault", f"not as recorded: {failure}", cure, RECONCILE)
    for record in service.Unfinished:
        what = f"a change of {record} was cut short"
        yield Finding("fault", what, "--fix finishes or undoes it; else the next check does", RECONCILE)
    for trashed in service.Due:
        what = f"{trashed} should have left the trash"
        yield Finding("warning", what, f"--fix deletes it; or now: pyvol trash empty {trashed}", RECONCILE)
    for program in service.Missing:
        what = f"the program {program} is not installed: what needs it fails"
        yield Finding("warning", what, f"apt-get install {_PACKAGES.get(program, program)}")


def _volume(volume: VolumeFacts) -> Iterator[Finding]:
    name = volume.Name
    if volume.Underway:
        return
    if volume.Unseen:
        yield Finding("fault", f"{name}: {volume.Unseen}", "look at what it names; the kernel's log may say why")
        return
    yield from _file(volume)
    if set(volume.Mounts) and not (volume.HasDevice and volume.IsMounted):
        lacks = "mount" if volume.HasDevice else "loop device"
        what = f"{name} is in use, and its {lacks} is not there"
        yield Finding("fault", what, "--fix puts it back; restart the containers that have it", RECONCILE)
    match volume.State:
        case "damaged":
            what = f"the kernel has found damage in {name}"
            cure = f"stop its containers, then: pyvol check {name}; e2fsck -f {volume.Image}"
            yield Finding("fault", what, cure)
        case "read-only":
            what = f"{name} was made read-only by the kernel, as after an error of the disk"
            yield Finding("fault", what, f"the kernel's log says why; stop its containers, then: pyvol check {name}")
        case "frozen":
            what = f"{name} is frozen: whoever writes to it waits"
            yield Finding("fault", what, "--fix lets it go; see who runs fsfreeze", THAW, name)
        case "unclean":
            what = f"{name} was not unmounted cleanly"
            yield Finding("note", what, "its next mount checks it, and repairs what is safe to repair")
    if volume.Locked:
        level, fix = ("warning", CLOSE_KEY) if volume.Exposed else ("fault", "")
        cure = f"--fix takes the right from them; another key would be better: pyvol export {name}"
        if not volume.Exposed:
            cure = f"its next mount fails; put the key back, or: pyvol set {name} key_file=PATH"
        yield Finding(level, f"{name}: {volume.Locked}", cure, fix, name if fix else "")  # type: ignore[arg-type]
    if volume.LastError:
        yield Finding("note", f"the last thing refused for {name}: {volume.LastError}", "it may be over since")


def _file(volume: VolumeFacts) -> Iterator[Finding]:
    cure = _AS_IT_WAS.format(name=volume.Name)
    if volume.Lost:
        what = f"the file of {volume.Name} was deleted or replaced while it is in use: {volume.Image}"
        save = f"what is in use is in the old one, as long as it is: dd if={volume.Lost} of=FILE conv=sparse bs=1M"
        yield Finding("fault", what, save)
    elif volume.FileBytes is None:
        yield Finding("fault", f"the file of {volume.Name} is gone: {volume.Image}", f"is its disk mounted? {cure}")
    if volume.FileBytes is not None and volume.FileBytes < volume.SizeBytes:
        has, wants = format_size(volume.FileBytes), format_size(volume.SizeBytes)
        yield Finding("fault", f"the file of {volume.Name} has {has} and should have {wants}: {volume.Image}", cure)


def _strays(service: ServiceAnswer) -> Iterator[Finding]:
    for stray in service.Strays:
        kind, _, path = stray.partition(" ")
        match kind:
            case "device" | "mount":
                what = f"there is a {'loop device on' if kind == 'device' else 'mount at'} {path} that no volume wants"
                yield Finding("warning", what, "--fix takes it away, unless somebody uses it", RECONCILE)
            case "data":
                what = f"there is data of a volume that no record knows: {path}"
                yield Finding("warning", what, f"nobody but you deletes it; look at it: mount -o loop,ro {path} /mnt")
            case _:
                yield Finding("note", f"there is a file that is none of pyvol's: {path}", "move it elsewhere")


def _disk(service: ServiceAnswer) -> Iterator[Finding]:
    available, growth = service.AvailableBytes, service.GrowthBytes
    room = "pyvol trim, pyvol trash empty, pyvol prune"
    if available < service.DiskBytes * _FULL:
        has = f"{rough_size(available)} of {rough_size(service.DiskBytes)}"
        yield Finding("warning", f"the disk of the volumes has {has} available", f"make room: {room}")
    if growth > available:
        what = f"volumes may still grow by {rough_size(growth)}, and the disk has {rough_size(available)} available"
        level, asked = ("warning", "") if service.Overcommit == 1 else ("note", ": so it was asked for (--overcommit)")
        yield Finding(level, f"{what}{asked}", f"a write will fail when it is full; {room}")  # type: ignore[arg-type]


def _engine(sight: Sight) -> Iterator[Finding]:
    before, after = sight.before, sight.after
    if before is None or after is None:
        yield Finding("warning", "no engine could be asked what it knows", "say where it is: --engine SOCKET")
        return
    for name, volume in stale(sight).items():
        callers = ", ".join(caller[:12] for caller in volume.Mounts if caller != OWN_CALLER)
        what = f"{name} is mounted for {callers}, and no engine has a container that runs with it"
        yield Finding("warning", what, "--fix ends that, if it stays so for five seconds", DETACH, name)
    unknown = before.users.keys() & after.users.keys() - set(sight.service.Names)
    for name in sorted(unknown):
        users = ", ".join(after.users[name])
        what = f"container {users} has the volume {name}, of which pyvol knows nothing"
        yield Finding("fault", what, f"pyvol undelete {name}, pyvol restore; or docker rm {users}")
    # Of a pyvol that was moved from one form to the other, the engine has two names.
    if unknown and len(after.drivers) > 1:
        names = ", ".join(sorted(after.drivers))
        what = f"there are volumes of several pyvol on this host: {names}"
        yield Finding("note", what, "what this one does not know may be the other's; docs/moving.md: how to have one")

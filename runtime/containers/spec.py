"""A container's OCI runtime specification. Pure: everything that has to be looked up is handed in.

Source: OCI runtime-spec config.md, config-linux.md; moby daemon/oci_linux.go for what Docker's options mean there.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.containers.record import Container
from runtime.containers.security import MASKED, READ_ONLY, capabilities, seccomp
from runtime.errors import BadParameter

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SHM_BYTES = 64 * 1024 * 1024
_CPU_PERIOD_US = 100_000
_TMPFS = ("noexec", "nosuid", "nodev")
_DEVICES = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, None)]
INIT = "/sbin/docker-init"


@dataclass(frozen=True)
class User:
    """Who a process is."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where the parts of a container are on this machine. init: the host's init program, if one is wanted."""

    rootfs: Path
    files: Path
    netns: Path | None
    cgroup: str
    mounts: list[dict[str, Any]]
    init: str = ""


def specification(container: Container, place: Place, user: User) -> dict[str, Any]:
    """Return config.json for runc.

    Raises: BadParameter: an option has no meaning.
    """
    host, privileged = container.host, bool(container.host.get("Privileged"))
    namespaces = [{"type": kind} for kind in ("mount", "ipc", "uts", "cgroup")]
    if host.get("PidMode") != "host":
        namespaces.append({"type": "pid"})
    if place.netns:
        namespaces.append({"type": "network", "path": str(place.netns)})
    linux: dict[str, Any] = {
        "namespaces": namespaces, "cgroupsPath": place.cgroup, "resources": resources(host),
        "rootfsPropagation": "rprivate",
        "sysctl": _sysctls(container, place.netns is not None),
    }  # fmt: skip
    if not privileged:
        # `--security-opt systempaths=unconfined` is an empty list, which is not none.
        for name, key, usual in (("maskedPaths", "MaskedPaths", MASKED), ("readonlyPaths", "ReadonlyPaths", READ_ONLY)):
            asked = host.get(key)
            linux[name] = list(usual if asked is None else asked)
        if not any("seccomp" in option and "unconfined" in option for option in host.get("SecurityOpt") or []):
            linux["seccomp"] = seccomp(granted(container))
    if any(mount.get("Propagation") in ("shared", "rshared") for mount in container.mounts):
        linux["rootfsPropagation"] = "rshared"
    elif any(mount.get("Propagation") in ("slave", "rslave") for mount in container.mounts):
        linux["rootfsPropagation"] = "rslave"
    process = first_process(container, user)
    if place.init:
        process["args"] = [INIT, "--", *process["args"]]
    return {
        "ociVersion": "1.0.2", "hostname": container.hostname, "process": process, "linux": linux,
        "root": {"path": str(place.rootfs), "readonly": bool(host.get("ReadonlyRootfs"))},
        "mounts": [*system_mounts(host, privileged), *_file_mounts(container, place), *_own_mounts(place, host)],
    }  # fmt: skip


def granted(container: Container) -> list[str]:
    """Return the capabilities that the container may have."""
    host = container.host
    return capabilities(host.get("CapAdd") or [], host.get("CapDrop") or [], bool(host.get("Privileged")))


def first_process(container: Container, user: User) -> dict[str, Any]:
    """Return the specification's `process` of the container."""
    config = container.config
    arguments = [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]
    return process(container, arguments, user, terminal=bool(config.get("Tty")), extra=[])


def process(container: Container, arguments: list[str], user: User, *, terminal: bool, extra: list[str],
            folder: str = "", privileged: bool = False) -> dict[str, Any]:  # fmt: skip
    """Return the specification of a process in the container, its environment that of the container and `extra`."""
    held = capabilities((), (), True) if privileged else granted(container)
    # A user other than root starts with none in effect, and gains none: they only bound what set-uid programs get.
    effective = held if user.uid == 0 else []
    size = container.host.get("ConsoleSize") or [0, 0]
    content: dict[str, Any] = {
        "terminal": terminal, "args": arguments, "cwd": folder or container.config.get("WorkingDir") or "/",
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)},
        "env": environment(container, terminal, extra),
        "capabilities": {"bounding": held, "permitted": effective, "effective": effective},
        "noNewPrivileges": any(
            option.startswith("no-new-privileges") for option in container.host.get("SecurityOpt") or []
        ),
        "rlimits": [_rlimit(each) for each in container.host.get("Ulimits") or []],
        "oomScoreAdj": int(container.host.get("OomScoreAdj") or 0),
    }  # fmt: skip
    if terminal and size[0] and size[1]:
        content["consoleSize"] = {"height": size[0], "width": size[1]}
    return content


def environment(container: Container, terminal: bool, extra: list[str]) -> list[str]:
    """Return the environment: the later line of a name counts, and a name alone takes it away."""
    lines = [PATH, f"HOSTNAME={container.hostname}", *(["TERM=xterm"] if terminal else [])]
    merged: dict[str, str] = {}
    for line in [*lines, *(container.config.get("Env") or []), *extra]:
        name, equals, value = str(line).partition("=")
        if equals:
            merged[name] = value
        else:
            merged.pop(name, None)
    return [f"{name}={value}" for name, value in merged.items()]


def signal_number(name: str | int) -> int:
    """Return the number of a signal that is given by name, short name or number.

    Raises: BadParameter.
    """
    text = str(name).upper()
    if text.isdecimal() and 0 < int(text) < signal.NSIG:
        return int(text)
    found = getattr(signal, text if text.startswith("SIG") else f"SIG{text}", None)
    if not isinstance(found, signal.Signals):
        raise BadParameter(f"invalid signal: {name}")
    return int(found)


def resources(host: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits of the container's control group."""
    allow = [{"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"} for major, minor in _DEVICES]
    devices = (
        [{"allow": True, "access": "rwm"}] if host.get("Privileged") else [{"allow": False, "access": "rwm"}, *allow]
    )
    found: dict[str, Any] = {"devices": devices, "memory": {}, "cpu": {}}
    if memory := int(host.get("Memory") or 0):
        swap = int(host.get("MemorySwap") or 0)
        found["memory"] = {"limit": memory, "swap": swap or 2 * memory}
    cpu = {
        "shares": host.get("CpuShares"), "period": host.get("CpuPeriod"), "quota": host.get("CpuQuota"),
        "cpus": host.get("CpusetCpus"), "mems": host.get("CpusetMems"),
    }  # fmt: skip
    if nano := int(host.get("NanoCpus") or 0):
        cpu |= {"period": _CPU_PERIOD_US, "quota": nano * _CPU_PERIOD_US // 1_000_000_000}
    found["cpu"] = {key: value for key, value in cpu.items() if value}
    if (pids := host.get("PidsLimit")) is not None and int(pids) != 0:
        found["pids"] = {"limit": int(pids)}
    return found


def _sysctls(container: Container, own_network: bool) -> dict[str, str]:
    # Ports below 1024 and ping are for everybody in a network namespace of its own, as dockerd has it.
    ours = (
        {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"} if own_network else {}
    )
    if domain := container.config.get("Domainname"):
        ours["kernel.domainname"] = str(domain)
    return {**ours, **(container.host.get("Sysctls") or {})}


def _rlimit(asked: Mapping[str, Any]) -> dict[str, Any]:
    # -1 is "without a limit", which the specification writes as the largest number.
    hard, soft = (int(asked[key]) % (1 << 64) for key in ("Hard", "Soft"))
    if soft > hard:
        raise BadParameter(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return {"type": f"RLIMIT_{str(asked['Name']).upper()}", "hard": hard, "soft": soft}


def system_mounts(host: Mapping[str, Any], privileged: bool) -> list[dict[str, Any]]:
    """Return the mounts that every container has."""
    sys_options = ["nosuid", "noexec", "nodev", "rw" if privileged else "ro"]
    shm = int(host.get("ShmSize") or _SHM_BYTES)
    return [
        _mount("/proc", "proc", "proc", ["nosuid", "noexec", "nodev"]),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("/dev/pts", "devpts", "devpts",
               ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        _mount("/sys", "sysfs", "sysfs", sys_options),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", sys_options),
        _mount("/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
        _mount("/dev/shm", "tmpfs", "shm", ["nosuid", "noexec", "nodev", "mode=1777", f"size={shm}"]),  # noqa: S108
    ]  # fmt: skip


def _file_mounts(container: Container, place: Place) -> list[dict[str, Any]]:
    taken = {mount["Destination"] for mount in container.mounts}
    return [
        bind(f"/etc/{name}", str(place.files / name), "rbind", "rprivate")
        for name in ("hosts", "hostname", "resolv.conf")
        if f"/etc/{name}" not in taken
    ]


def _own_mounts(place: Place, host: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for mount in place.mounts:
        if mount["Type"] == "tmpfs":
            options = [*_TMPFS, *(option for option in str(mount.get("Options", "")).split(",") if option)]
            found.append(_mount(mount["Destination"], "tmpfs", "tmpfs", options))
        else:
            access = "rw" if mount["RW"] else "ro"
            propagation = mount.get("Propagation") or "rprivate"
            found.append(bind(mount["Destination"], mount["Source"], "rbind", access, propagation))
    for target, options in (host.get("Tmpfs") or {}).items():
        found.append(_mount(target, "tmpfs", "tmpfs", [*_TMPFS, *(option for option in options.split(",") if option)]))
    if place.init:
        found.append(bind(INIT, place.init, "bind", "ro"))
    # Parents first: a mount below another one would be hidden by it.
    return sorted(found, key=lambda mount: str(mount["destination"]).count("/"))


def bind(target: str, source: str, *options: str) -> dict[str, Any]:
    """Return a mount of what is at `source` on the host."""
    return _mount(target, "bind", source, list(options))


def _mount(target: str, kind: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": source, "options": options}

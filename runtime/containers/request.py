"""The body of `containers/create`, read in full: what pyrun does not know, it refuses by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from runtime.containers.security import MASKED, READ_ONLY
from runtime.errors import BadParameter, Unsupported
from runtime.images.store import Image

_NAME = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_CONFIG = frozenset((
    "Hostname", "User", "AttachStdin", "AttachStdout", "AttachStderr", "ExposedPorts", "Tty", "OpenStdin",
    "StdinOnce", "Env", "Cmd", "Image", "Volumes", "WorkingDir", "Entrypoint", "Labels", "StopSignal",
    "StopTimeout", "ArgsEscaped", "OnBuild", "MacAddress", "Domainname",
))  # fmt: skip
_HOST = frozenset((
    "Binds", "Mounts", "NetworkMode", "PortBindings", "PublishAllPorts", "RestartPolicy", "AutoRemove",
    "VolumeDriver", "VolumesFrom", "CapAdd", "CapDrop", "Dns", "DnsOptions", "DnsSearch", "ExtraHosts",
    "GroupAdd", "Privileged", "ReadonlyRootfs", "SecurityOpt", "Tmpfs", "ShmSize", "Sysctls", "Init", "Ulimits",
    "Memory", "MemorySwap", "NanoCpus", "CpuShares", "CpuPeriod", "CpuQuota", "CpusetCpus", "CpusetMems",
    "PidsLimit", "OomScoreAdj", "MaskedPaths", "ReadonlyPaths", "ConsoleSize",
))  # fmt: skip
# Known, and of these values alone.
_ONLY: Mapping[str, tuple[Any, ...]] = {
    "LogConfig": ({"Type": ""}, {"Type": "json-file"}, {"Type": "", "Config": {}}, {"Type": "json-file", "Config": {}},
                  {"Type": "", "Config": None}),
    "IpcMode": ("private", "shareable"), "PidMode": ("host",), "CgroupnsMode": ("private",), "Runtime": ("runc",),
    "Isolation": ("default",), "MemorySwappiness": (-1,), "CgroupParent": (),
}  # fmt: skip
_SECURITY = ("no-new-privileges", "no-new-privileges:true", "no-new-privileges=true", "seccomp=unconfined",
             "seccomp=builtin", "seccomp:unconfined", "label=disable", "label:disable", "apparmor=unconfined",
             "apparmor:unconfined")  # fmt: skip
_USUAL = {"ShmSize": 64 * 1024 * 1024, "Runtime": "runc", "IpcMode": "private", "CgroupnsMode": "private"}
_POLICIES = ("", "no", "always", "unless-stopped", "on-failure")


def parse_name(name: str) -> str:
    """Return the name.

    Raises: BadParameter.
    """
    if not _NAME.fullmatch(name):
        raise BadParameter(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return name.removeprefix("/")


def parse_wishes(body: Mapping[str, Any], host: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is wished of each network, with the MAC address that clients before 1.44 name beside them.

    Raises: BadParameter: a MAC address without a network to have it in.
    """
    wishes = dict((body.get("NetworkingConfig") or {}).get("EndpointsConfig") or {})
    if mac := body.get("MacAddress"):
        mode = str(host.get("NetworkMode") or "default")
        if mode in ("none", "host"):
            raise BadParameter(f"conflicting options: mac-address and the network mode {mode}; leave one of them away")
        wishes[mode] = {"MacAddress": mac, **{key: value for key, value in (wishes.get(mode) or {}).items() if value}}
    return wishes


def parse_config(body: Mapping[str, Any], image: Image) -> dict[str, Any]:
    """Return the Config of a container: what the body says, and for the rest what the image says.

    Raises: BadParameter, Unsupported.
    """
    asked = {key: value for key, value in body.items() if key not in ("HostConfig", "NetworkingConfig")}
    for key, value in asked.items():
        if key not in _CONFIG and not _is_empty(value):
            raise Unsupported(f"cannot create the container: pyrun has no {key}; leave that option away")
    base = image.config
    config = dict(asked)
    entrypoint = config.get("Entrypoint")
    if entrypoint is None:
        config["Entrypoint"] = base.get("Entrypoint")
        config["Cmd"] = config.get("Cmd") or base.get("Cmd")
    elif entrypoint == [""] or not entrypoint:
        config["Entrypoint"] = None
    for key in ("User", "WorkingDir", "StopSignal"):
        config[key] = config.get(key) or base.get(key) or ""
    given = [str(line) for line in config.get("Env") or []]
    names = {line.partition("=")[0] for line in given}
    config["Env"] = [*given, *(line for line in base.get("Env") or [] if line.partition("=")[0] not in names)]
    for key in ("Labels", "ExposedPorts", "Volumes"):
        config[key] = {**(base.get(key) or {}), **(config.get(key) or {})}
    if not (config["Entrypoint"] or config["Cmd"]):
        raise BadParameter("no command specified: the image has none; give one after its name")
    if config["WorkingDir"] and not str(config["WorkingDir"]).startswith("/"):
        raise BadParameter(
            f"the working directory '{config['WorkingDir']}' is invalid, it needs to be an absolute path"
        )
    return config


def parse_host(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the HostConfig of a container.

    Raises: BadParameter, Unsupported.
    """
    host = dict(body.get("HostConfig") or {})
    for key, value in host.items():
        if key not in _HOST and not _is_empty(value) and value not in _ONLY.get(key, ()):
            raise Unsupported(f"cannot create the container: pyrun has no {key} {value!r}; leave that option away")
    for option in host.get("SecurityOpt") or []:
        if option not in _SECURITY:
            raise Unsupported(f"cannot create the container: pyrun has no security option {option!r}")
    policy = host.get("RestartPolicy") or {}
    name, retries = str(policy.get("Name") or ""), int(policy.get("MaximumRetryCount") or 0)
    if name not in _POLICIES or (retries and name != "on-failure") or retries < 0:
        raise BadParameter(
            f"invalid restart policy: cannot use {name}:{retries}; it is one of {', '.join(_POLICIES[1:])}"
        )
    if host.get("AutoRemove") and name not in ("", "no"):
        raise BadParameter("can't create 'AutoRemove' container with restart policy")
    host["RestartPolicy"] = {"Name": name or "no", "MaximumRetryCount": retries}
    memory, swap = int(host.get("Memory") or 0), int(host.get("MemorySwap") or 0)
    if 0 < memory < 6 * 1024 * 1024:
        raise BadParameter("Minimum memory limit allowed is 6MB")
    if swap > 0 and (memory == 0 or swap < memory):
        raise BadParameter("Minimum memoryswap limit should be larger than memory limit, see usage")
    if host.get("NanoCpus") and (host.get("CpuPeriod") or host.get("CpuQuota")):
        raise BadParameter("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    # What clients read back is complete.
    host["LogConfig"] = {"Type": "json-file", "Config": {}}
    host["NetworkMode"] = host.get("NetworkMode") or "default"
    host |= {key: host.get(key) or usual for key, usual in _USUAL.items()}
    host |= {"MemorySwap": swap or 2 * memory, "PidsLimit": host.get("PidsLimit") or None, "MemorySwappiness": None}
    for key, paths in (("MaskedPaths", MASKED), ("ReadonlyPaths", READ_ONLY)):
        # `--security-opt systempaths=unconfined` is an empty list, which is not none.
        if host.get(key) is None and not host.get("Privileged"):
            host[key] = list(paths)
    return host


def _is_empty(value: Any) -> bool:
    """Whether a value is the one that Go's types have when nothing was said."""
    return value in (None, False, 0, "", [], {}, [""])

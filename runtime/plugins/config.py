"""A managed plugin: its config.json, what an administrator may set of it, and how runc is to run it. Pure.

Source: moby api/types/plugin; plugin/v2/settable.go; plugin/v2/plugin_linux.go, InitSpec.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from runtime.containers.security import MASKED, READ_ONLY, capabilities
from runtime.containers.spec import PATH, bind, resources, system_mounts
from runtime.errors import BadParameter, Failed, Unsupported

KINDS = {
    "docker.volumedriver": "VolumeDriver", "docker.networkdriver": "NetworkDriver", "docker.ipamdriver": "IpamDriver",
}  # fmt: skip
_SOCKETS = "/run/docker/plugins"
_PROTOCOLS = ("", "moby.plugins.http/v1")


class _Part(msgspec.Struct, frozen=True, rename="pascal"):
    """A part of the API, whose names it has."""


class Setting(_Part, frozen=True):
    """What has a name by which it may be set."""

    name: str = ""
    description: str = ""
    settable: list[str] = []


class Env(Setting, frozen=True):
    """A variable of the environment; None: it is not there."""

    value: str | None = None


class Args(Setting, frozen=True):
    """What follows the entry point."""

    value: list[str] = []


class Mount(Setting, frozen=True):
    """A mount as mount(8) has it."""

    source: str | None = None
    destination: str = ""
    type: str = "bind"
    options: list[str] = []


class Device(Setting, frozen=True):
    """A device of the host, at the same place in the plugin."""

    path: str | None = None


class Interface(_Part, frozen=True):
    """What the plugin is, as `docker.volumedriver/1.0`, and the name of its socket."""

    types: list[str] = []
    socket: str = ""
    protocol_scheme: str = ""


class Linux(_Part, frozen=True):
    """Rights beyond those of a container."""

    capabilities: list[str] = []
    allow_all_devices: bool = False
    devices: list[Device] = []


class Network(_Part, frozen=True):
    """`host`, or anything else for a network namespace with nothing in it."""

    type: str = ""


class Config(_Part, frozen=True):
    """config.json. Parts that nobody knows are passed over, as dockerd does."""

    entrypoint: list[str]
    interface: Interface
    description: str = ""
    documentation: str = ""
    work_dir: str = ""
    network: Network = Network()
    ipc_host: bool = False
    pid_host: bool = False
    propagated_mount: str = ""
    mounts: list[Mount] = []
    env: list[Env] = []
    args: Args = Args()
    linux: Linux = Linux()

    @property
    def kinds(self) -> frozenset[str]:
        """What the plugin implements, as Plugin.Activate would say it."""
        return frozenset(KINDS[kind] for each in self.interface.types if (kind := each.partition("/")[0]) in KINDS)


class Settings(_Part, frozen=True):
    """What config.json leaves to the administrator, as it is now. env: NAME=value."""

    mounts: list[Mount]
    env: list[str]
    args: list[str]
    devices: list[Device]


class Plugin(_Part, frozen=True):
    """A managed plugin. enabled: it is to run."""

    id: str
    name: str
    enabled: bool
    settings: Settings
    config: Config


@dataclass(frozen=True)
class Place:
    """Where the parts of a plugin are on this machine. nodes: its devices, as the runtime specification has them."""

    rootfs: Path
    sockets: Path
    propagated: Path
    cgroup: str
    nodes: list[dict[str, Any]]


def parse(text: bytes) -> Config:
    """Return what config.json says.

    Raises: BadParameter: it is no JSON, or lacks something; Unsupported: another protocol.
    """
    try:
        # Go writes null for what is not there.
        content = json.loads(text, object_hook=lambda found: {key: it for key, it in found.items() if it is not None})
        config = msgspec.convert(content, Config)
    except (ValueError, msgspec.ValidationError) as exc:
        raise BadParameter(f"cannot create the plugin: its config.json cannot be read: {exc}") from exc
    socket = config.interface.socket
    if not config.entrypoint or not socket or "/" in socket or socket in (".", ".."):
        raise BadParameter("cannot create the plugin: its config.json needs Entrypoint and the name Interface.Socket")
    if config.interface.protocol_scheme not in _PROTOCOLS:
        raise Unsupported(f"cannot create the plugin: pyrun does not speak {config.interface.protocol_scheme}")
    capabilities(config.linux.capabilities, (), False)
    return config


def initial(config: Config) -> Settings:
    """Return the settings before anybody has set one."""
    env = [f"{each.name}={each.value}" for each in config.env if each.value is not None]
    return Settings(config.mounts, env, config.args.value, config.linux.devices)


def changed(config: Config, settings: Settings, words: Iterable[str]) -> Settings:
    """Return the settings after `docker plugin set … WORDS`: NAME=value, or NAME.field=value.

    Raises: BadParameter: there is no such setting, or it may not be set.
    """
    for word in words:
        name, equals, value = word.partition("=")
        name, _, field = name.partition(".")
        every = (*config.env, *config.mounts, *config.linux.devices, config.args)
        found = next((each for each in every if name and each.name == name), None)
        if found is None or not equals:
            raise BadParameter(f'cannot set {word!r}: setting "{name}" not found in the plugin configuration')
        only = {Mount: "source", Device: "path"}.get(type(found), "value")
        if only not in found.settable or field not in ("", only):
            raise BadParameter(f'cannot set {word!r}: "{name}" is not settable; see docker plugin inspect')
        if isinstance(found, Env):
            others = [line for line in settings.env if line.partition("=")[0] != name]
            settings = msgspec.structs.replace(settings, env=[*others, f"{name}={value}"])
        elif isinstance(found, Args):
            settings = msgspec.structs.replace(settings, args=value.split(" "))
        else:
            which = "mounts" if isinstance(found, Mount) else "devices"
            parts = [
                msgspec.structs.replace(each, **{only: value}) if each.name == name else each
                for each in getattr(settings, which)
            ]
            settings = msgspec.structs.replace(settings, **{which: parts})
    return settings


def specification(plugin: Plugin, place: Place) -> dict[str, Any]:
    """Return the OCI runtime specification: that of a container, with what the plugin asks for and no seccomp.

    Raises: Failed: a mount has no source.
    """
    config, settings = plugin.config, plugin.settings
    shared = {"ipc": config.ipc_host, "pid": config.pid_host, "network": config.network.type == "host"}
    namespaces = ["mount", "uts", "cgroup", *(kind for kind, on in shared.items() if not on)]
    limits = resources({"Privileged": config.linux.allow_all_devices})
    limits["devices"] += [{"allow": True, "access": "rwm"} | {key: node[key] for key in ("type", "major", "minor")}
                          for node in place.nodes]  # fmt: skip
    held = capabilities(config.linux.capabilities, (), False)
    mounts = [*system_mounts({}, False), bind(_SOCKETS, str(place.sockets), "rbind", "rw")]
    if config.network.type:
        mounts += [bind(path, path, "bind", "ro") for path in ("/etc/hosts", "/etc/resolv.conf")]
    if config.propagated_mount:
        mounts.append(bind(config.propagated_mount, str(place.propagated), "rbind", "rw", "rshared"))
    for each in settings.mounts:
        if each.source is None:
            raise Failed(f"cannot start plugin {plugin.name}: mount source is not specified; set {each.name}.source")
        mounts.append({"destination": each.destination, "type": each.type, "source": each.source,
                       "options": each.options})  # fmt: skip
    return {
        "ociVersion": "1.0.2", "hostname": plugin.id[:12], "root": {"path": str(place.rootfs), "readonly": False},
        "process": {
            "terminal": False, "user": {"uid": 0, "gid": 0}, "cwd": config.work_dir or "/",
            "args": [*config.entrypoint, *settings.args], "env": [PATH, *settings.env],
            "capabilities": {"bounding": held, "permitted": held, "effective": held},
        },
        "mounts": mounts,
        "linux": {
            "namespaces": [{"type": kind} for kind in namespaces], "cgroupsPath": place.cgroup, "resources": limits,
            "devices": place.nodes, "maskedPaths": list(MASKED), "readonlyPaths": list(READ_ONLY),
            # What the plugin mounts is to be seen on the host, and what the host mounts by the plugin.
            "rootfsPropagation": "rshared" if config.propagated_mount else "rslave",
        },
    }  # fmt: skip

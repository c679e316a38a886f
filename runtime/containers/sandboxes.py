"""The network side of a container: its namespace, its files in /etc, and the networks that it is in.

`none` and `host` are pyrun's own; every other network is a plugin's.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from runtime import kernel
from runtime.containers.record import Container
from runtime.errors import BadParameter, NotFound, Unsupported
from runtime.networks.files import HEAD
from runtime.networks.networks import Networks
from runtime.networks.records import Target
from runtime.networks.table import DEFAULT

NONE, HOST = "none", "host"


class Sandboxes:
    """Network namespaces below `folder`, and who is in which network."""

    def __init__(self, networks: Networks, folder: Path, files: Path) -> None:
        self.networks = networks
        self._folder, self._files = folder, files

    def netns(self, container: Container) -> Path | None:
        """Return where the container's network namespace is while it runs; None: it uses the host's."""
        return None if container.network_mode == HOST else self._folder / container.id

    def files(self, container: Container) -> Path:
        """Return the directory of its hosts, hostname and resolv.conf."""
        return self._files / container.id / "etc"

    def check(self, host: dict[str, Any], ports: dict[str, Any], wishes: dict[str, Any]) -> dict[str, Any]:
        """The networks exist and the wishes make sense; return them by network, at least that of the network mode.

        Raises: NotFound, BadParameter, Unsupported.
        """
        mode = str(host.get("NetworkMode") or "default")
        if mode.startswith(("container:", "ns:")):
            raise Unsupported(f"cannot create the container: pyrun has no network mode {mode}; name a network")
        if mode in (NONE, HOST):
            if set(wishes) - {mode, "default"}:
                raise BadParameter(f"cannot create the container: with network {mode} there can be no other one")
            return {mode: {}}
        merged = {mode: {}, **{mode if key == "default" else key: wish or {} for key, wish in wishes.items()}}
        if mode == "default":
            merged = {DEFAULT: merged.pop("default"), **merged}
        try:
            self.networks.check(merged, ports)
        except NotFound as exc:
            # To the CLI, "not found" here means the image, which it would pull.
            raise BadParameter(str(exc)) from exc
        return merged

    def start(self, container: Container) -> None:
        """The namespace and the files are there, and every network is joined.

        Raises: what the networks raise; nothing is left of the attempt.
        """
        files, netns = self.files(container), self.netns(container)
        files.mkdir(mode=0o755, parents=True, exist_ok=True)
        (files / "hostname").write_text(container.hostname + "\n")
        if netns is None:
            for name in ("hosts", "resolv.conf"):
                _copy_host_file(name, files)
            return
        self._write_files(container, files)
        kernel.create_netns(netns)
        if joined := {name: wish for name, wish in container.networks.items() if name != NONE}:
            self.networks.attach_all(self.target(container), joined, published(container))

    def stop(self, container: Container) -> None:
        """No network is joined and the namespace is gone. Nothing happens when it is done already."""
        if netns := self.netns(container):
            self.networks.detach_all(container.id)
            kernel.remove_netns(netns)

    def target(self, container: Container) -> Target:
        """Return what networks have to know of the container.

        Raises: BadParameter: it has the host's namespace.
        """
        netns, host = self.netns(container), container.host
        if netns is None:
            raise _host_network(container)
        return Target(
            container.id, container.name, container.hostname, netns, self.files(container),
            *(tuple(host.get(key) or ()) for key in ("Dns", "DnsSearch", "DnsOptions", "ExtraHosts")),
        )  # fmt: skip

    def check_another(self, container: Container, name: str) -> None:
        """The container may be in the network `name` beside those that it is in.

        Raises: BadParameter: `host`, or `none` among others.
        """
        if name == HOST:
            raise _host_network(container)
        if NONE in (both := {name, *container.networks}) and len(both) > 1:
            raise BadParameter(
                f"cannot connect {container.name} to {name}: container cannot be connected to multiple networks with"
                " one of the networks in private (none) mode; disconnect it from the other one first"
            )

    def _write_files(self, container: Container, files: Path) -> None:
        """The files of a container without networks; those of others are written by `attach_all`, in place."""
        added = "".join(
            f"{address}\t{name}\n"
            for name, _, address in (str(line).partition(":") for line in container.host.get("ExtraHosts") or [])
        )
        (files / "hosts").write_text(HEAD + added)
        lines = [f"nameserver {server}" for server in container.host.get("Dns") or []]
        lines += [f"{word} {' '.join(host)}" for word, host in (
            ("search", container.host.get("DnsSearch")), ("options", container.host.get("DnsOptions"))
        ) if host]  # fmt: skip
        if lines:
            (files / "resolv.conf").write_text("\n".join(lines) + "\n")
        else:
            _copy_host_file("resolv.conf", files)


def _host_network(container: Container) -> BadParameter:
    return BadParameter(
        f"cannot change the networks of {container.name}: container cannot be disconnected from host network or"
        " connected to host network; create it anew"
    )


def _copy_host_file(name: str, files: Path) -> None:
    """The container's file is the host's, or empty where the host has none."""
    try:
        shutil.copyfile(Path("/etc") / name, files / name)
    except FileNotFoundError:
        (files / name).touch()


def published(container: Container) -> dict[str, Any]:
    """Return the wished ports, as PortBindings: those of `-p`, with `-P` every exposed one; None: only exposed."""
    everyone = [{"HostIp": "", "HostPort": ""}] if container.host.get("PublishAllPorts") else None
    exposed = dict.fromkeys(container.config.get("ExposedPorts") or {}, everyone)
    return {**exposed, **(container.host.get("PortBindings") or {})}

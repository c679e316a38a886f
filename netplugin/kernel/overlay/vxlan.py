"""VXLAN devices, each a port of a bridge. Source: rtnetlink(7); linux/if_link.h; bridge(8), neigh_suppress."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

from netplugin.kernel.netlink import Netlink
from netplugin.kernel.overlay.prober import let_software_compute_checksums
from netplugin.resources import Vxlan
from pluginkit.errors import Conflict, KernelError, NotFound

NAME = re.compile(r"pnx[0-9A-Za-z]{8}")
_ALIAS = "pynet network "
# Outer packets are never fragmented: what is too large for the way is told to who sent it. Source: VXLAN_DF_SET.
_DF_SET = 1


class VxlanDevices:
    """The VXLAN devices of this network namespace."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink
        self._in_software = False

    def compute_checksums_in_software(self) -> None:
        """No device computes checksums of what leaves by ours, now and as long as this process runs.

        Raises: KernelError.
        """
        self._in_software = True
        for link in self._netlink.links.every("vxlan"):
            if NAME.fullmatch(link.name):
                let_software_compute_checksums(link.name)

    def ensure(self, want: Vxlan) -> None:
        """The device exists with the wanted VNI, port, learning and local address, and is up in the bridge.

        Raises: NotFound: the bridge is gone. Conflict: the name, or the VNI on that port, is taken by another link.
        """
        bridge = self._netlink.link(want.bridge)
        if bridge is None:
            raise NotFound(f"cannot attach {want.name}: the bridge {want.bridge} is gone; send SIGHUP to restore it")
        link = self._netlink.link(want.name)
        if link is not None and (link.kind != "vxlan" or link.alias not in ("", want.alias)):
            raise Conflict(
                f"cannot create VXLAN device {want.name}: a link of that name exists and belongs to"
                f" {link.alias or 'somebody else'}; rename or delete it"
            )
        if link is not None and self._tunnel(link.index) != _tunnel_of(want):
            # None of these can be changed.
            self.remove(want)
            link = None
        if link is None:
            self._create(want)
            link = self._netlink.link(want.name)
            if link is None:
                raise Conflict(
                    f"cannot create VXLAN device {want.name}: VNI {want.vni} on UDP port {want.port} is another"
                    " network's on this host; choose another -o vni or -o vxlan_port"
                )
        if (link.up, link.mtu, link.master, link.alias) != (True, want.mtu, bridge.index, want.alias):
            self._attach(want, link.index, bridge.index)
        with self._netlink.request("set the port flags of", want.name) as socket:
            # neigh_suppress: who asks for the gateway is answered here, and nobody elsewhere hears of it.
            socket.brport(
                "set", index=link.index, neigh_suppress=1, isolated=int(want.isolated), learning=int(want.learning)
            )
        if self._in_software:
            let_software_compute_checksums(want.name)

    def remove(self, want: Vxlan) -> None:
        """The device does not exist."""
        with self._netlink.request("delete VXLAN device", want.name, ignore=(errno.ENODEV,)) as socket:
            socket.link("del", ifname=want.name)

    def owned(self) -> Iterable[Vxlan]:
        """Return the devices with a name of ours, and an alias of ours or, if we died before giving it, none."""
        found = []
        for link in self._netlink.links.every("vxlan"):
            if NAME.fullmatch(link.name) and (not link.alias or link.alias.startswith(_ALIAS)):
                vni, port, learning, _, local = self._tunnel(link.index)
                bridge = self._name_of(link.master)
                found.append(
                    Vxlan(link.name, bridge, vni, port, local, link.mtu, bool(learning), link.isolated, link.alias)
                )
        return found

    def _attach(self, want: Vxlan, index: int, bridge: int) -> None:
        try:
            with self._netlink.request("attach", want.name) as socket:
                socket.link("set", index=index, master=bridge, mtu=want.mtu, ifalias=want.alias, state="up")
        except KernelError as exc:
            if exc.code == errno.EADDRINUSE:
                raise Conflict(
                    f"cannot open UDP port {want.port} for {want.name}: a program of this host has it; choose another"
                    " -o vxlan_port, on all hosts"
                ) from exc
            raise

    def _create(self, want: Vxlan) -> None:
        """The device exists, unless its name or its VNI is taken."""
        family = "vxlan_local" if ip_address(want.local).version == 4 else "vxlan_local6"
        with self._netlink.request("create VXLAN device", want.name, ignore=(errno.EEXIST,)) as socket:
            socket.link(
                "add",
                ifname=want.name,
                kind="vxlan",
                vxlan_id=want.vni,
                vxlan_port=want.port,
                vxlan_learning=int(want.learning),
                vxlan_df=_DF_SET,
                mtu=want.mtu,
                **{family: want.local},
            )

    def _name_of(self, index: int) -> str:
        """Return the name of the link of that index, "" for 0, which is none."""
        if not index:
            return ""
        with self._netlink.request("look up", "the bridge of a VXLAN device") as socket:
            return str(socket.link("get", index=index)[0].get_attr("IFLA_IFNAME"))

    def _tunnel(self, index: int) -> tuple[Any, ...]:
        with self._netlink.request("look up", "a VXLAN device") as socket:
            message = socket.link("get", index=index)[0]
        data = message.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA")
        local = data.get_attr("IFLA_VXLAN_LOCAL") or data.get_attr("IFLA_VXLAN_LOCAL6") or ""
        names = ("IFLA_VXLAN_ID", "IFLA_VXLAN_PORT", "IFLA_VXLAN_LEARNING", "IFLA_VXLAN_DF")
        return (*map(data.get_attr, names), local)


def _tunnel_of(want: Vxlan) -> tuple[Any, ...]:
    return (want.vni, want.port, int(want.learning), _DF_SET, want.local)

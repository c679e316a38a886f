"""Whether the way to each peer carries the packets of overlays: asked and answered here, outside of every request.

One device for each UDP port and family, beside those of networks and in no bridge, so that nothing of it comes to a
container. Its frames are read before the host's firewall sees them; their outer packets pass it like those of networks.
Source: packet(7), PACKET_VNET_HDR; ethtool(8), tx-checksumming.
"""

from __future__ import annotations

import errno
import logging
import re
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Iterable
from contextlib import closing
from ipaddress import ip_address

from pyroute2.ethtool.ioctl import IoctlEthtool

from netplugin.kernel.netlink import Netlink
from netplugin.overlay.ways import VNI, Message, Mode, Underlay, Way, address_of, pack, unpack, verdict
from pluginkit.errors import KernelError, PluginError
from pluginkit.log import failure

log = logging.getLogger(__name__)

NAME = re.compile(r"pnt\d{1,5}-[46]")
_NTF_SELF, _NUD_PERMANENT = 0x02, 0x80
_SOL_PACKET, _PACKET_VNET_HDR, _PACKET_OUTGOING = 263, 15, 4
_ETH_P_IP = 0x0800
_LARGEST = 65536
_TRIES, _PATIENCE_S = 3, 0.5
# Whoever asks more often, or forges such questions, is not answered.
_ANSWERS_PER_S = 200
_MODES: tuple[Mode, ...] = ("device", "ready", "large")
# Outer packets are not fragmented, as those of networks are not. Source: linux/if_link.h, VXLAN_DF_SET.
_DF_SET = 1


class Prober:
    """What asks and answers in this network namespace."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink
        self._lock = threading.Lock()
        self._served: dict[Underlay, socket.socket] = {}
        self._asked: dict[bytes, tuple[str, str, Mode]] = {}
        # What came whole.
        self._whole: set[tuple[str, str, Mode]] = set()
        self._selector = selectors.DefaultSelector()
        self._thread: threading.Thread | None = None

    def serve(self, wanted: Iterable[Underlay]) -> None:
        """Peers of these underlays are answered, and no others; what cannot be had was logged."""
        wanted = set(wanted)
        with self._lock:
            for gone in self._served.keys() - wanted:
                self._close(gone)
        for link in self._netlink.links.every("vxlan"):
            if NAME.fullmatch(link.name) and link.name not in {one.link for one in wanted}:
                with self._netlink.request("delete", link.name, ignore=(errno.ENODEV,)) as netlink:
                    netlink.link("del", index=link.index)
        for one in wanted:
            try:
                if one not in self._served or self._netlink.link(one.link) is None:
                    self._open(one)
            except (PluginError, OSError) as exc:
                failure(log, exc)

    def probe(self) -> list[Way]:
        """Return how the way to each peer is, after two seconds at most."""
        with self._lock:
            served = dict(self._served)
            self._asked.clear()
            self._whole.clear()
        wanted = {(one.link, peer, mode): one for one in served for peer in one.peers for mode in _MODES}
        for _ in range(_TRIES):
            missing = wanted.keys() - self._whole
            for key in missing:
                one, (_, peer, mode) = wanted[key], key
                nonce = secrets.token_bytes(8)
                self._asked[nonce] = key
                self._send(served[one], pack(Message(False, nonce, one.local, False), peer, mode, one.mtu))
            if not missing:
                break
            self._wait_for(missing)
        return [
            Way(peer, one.port, verdict({mode for mode in _MODES if (one.link, peer, mode) in self._whole}))
            for one in served
            for peer in sorted(one.peers)
        ]

    def close(self) -> None:
        """Nobody is answered; devices stay for the next process."""
        with self._lock:
            for one in list(self._served):
                self._close(one)

    def _wait_for(self, missing: set[tuple[str, str, Mode]]) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline and not missing <= self._whole:
            time.sleep(0.01)

    def _open(self, one: Underlay) -> None:
        """The device is there, leads to the peers and nobody else, and is listened to."""
        found = self._netlink.link(one.link)
        if found is not None:
            with self._netlink.request("delete", one.link, ignore=(errno.ENODEV,)) as netlink:
                netlink.link("del", index=found.index)
        local = {"vxlan_local" if ip_address(one.local).version == 4 else "vxlan_local6": one.local}
        with self._netlink.request("create", one.link) as netlink:
            netlink.link(
                "add",
                ifname=one.link,
                kind="vxlan",
                mtu=one.mtu,
                vxlan_id=VNI,
                vxlan_port=one.port,
                vxlan_learning=0,
                vxlan_df=_DF_SET,
                **local,
            )
        link = self._netlink.link(one.link)
        if link is None:
            raise KernelError("find", one.link, errno.ENODEV)
        with self._netlink.request("use", one.link) as netlink:
            netlink.link("set", index=link.index, state="up")
            for peer in one.peers:
                where = {"ifindex": link.index, "lladdr": address_of(peer), "dst": peer}
                netlink.fdb("append", flags=_NTF_SELF, state=_NUD_PERMANENT, **where)
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        try:
            opened.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
            opened.bind((one.link, _ETH_P_IP))
        except OSError:
            opened.close()
            raise
        with self._lock:
            if one in self._served:
                self._close(one)
            self._served[one] = opened
            self._selector.register(opened, selectors.EVENT_READ, one)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ways", daemon=True)
                self._thread.start()

    def _close(self, one: Underlay) -> None:
        opened = self._served.pop(one)
        self._selector.unregister(opened)
        opened.close()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                try:
                    self._receive(key.fileobj, key.data)
                except OSError as exc:
                    log.debug("ways: %s", exc)
                except Exception as exc:  # noqa: BLE001 - the thread must live
                    failure(log, exc)

    def _receive(self, opened: object, one: Underlay) -> None:
        assert isinstance(opened, socket.socket)
        received, where = opened.recvfrom(_LARGEST)
        found = unpack(received) if where[2] != _PACKET_OUTGOING else None
        if found is None:
            return
        message, right = found
        if message.is_answer:
            if right and message.whole and (key := self._asked.get(message.nonce)) is not None:
                self._whole.add(key)
        elif message.sender in one.peers:
            self._send(opened, pack(Message(True, message.nonce, one.local, right), message.sender, "ready"))
            time.sleep(1 / _ANSWERS_PER_S)

    def _send(self, opened: socket.socket, frame: bytes) -> None:
        try:
            opened.send(frame)
        except OSError as exc:
            # As good as lost on the way.
            log.debug("ways: %s", exc)


def let_software_compute_checksums(link: str) -> None:
    """What leaves by the link has its checksums, and no device computes them. Raises: KernelError."""
    try:
        with closing(IoctlEthtool(link)) as ethtool:
            ethtool.set_offload_flag("tx-checksumming", 0)
    except Exception as exc:
        code = exc.errno if isinstance(exc, OSError) else errno.ENOTSUP
        raise KernelError("switch the computing of checksums off on", link, code or 0) from exc

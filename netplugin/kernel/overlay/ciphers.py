"""What the kernel can encrypt packets with. Source: linux/xfrm.h; net/xfrm/xfrm_state.c, xfrm_init_state; wg(8)."""

from __future__ import annotations

import errno
import socket
import struct

from netplugin.kernel.netlink import Netlink
from netplugin.kernel.nlattr import attribute, message
from netplugin.machine import Cipher
from pluginkit.errors import KernelError

_NAME = "pn-probe"
_NETLINK_XFRM, _NEW_STATE, _NLMSG_ERROR = 6, 0x10, 2
_REQUEST_WITH_ANSWER = 0x1 | 0x4
_AEAD = 18
# A key of one byte is too short for every cipher: ESP says so (EINVAL), and makes no state. Without ESP the kernel says
# EPROTONOSUPPORT, without such a cipher ENOSYS.
_SHORT_KEY = struct.pack("=64sIIx", b"rfc4106(gcm(aes))", 8, 128)


def ciphers(netlink: Netlink) -> frozenset[Cipher]:
    """Return what there is; the kernel has loaded modules for it if it could, and nothing else has changed."""
    found: set[Cipher] = set()
    if _has_wireguard(netlink):
        found.add("WireGuard")
    if _has_esp():
        found.add("ESP")
    return frozenset(found)


def _has_wireguard(netlink: Netlink) -> bool:
    try:
        with netlink.request("create", _NAME, ignore=(errno.EEXIST,)) as rtnetlink:
            rtnetlink.link("add", ifname=_NAME, kind="wireguard")
    except KernelError:
        return False
    link = netlink.link(_NAME)
    if link is not None:
        with netlink.request("delete", _NAME, ignore=(errno.ENODEV,)) as rtnetlink:
            rtnetlink.link("del", index=link.index)
    return True


def _has_esp() -> bool:
    loopback = socket.inet_aton("127.0.0.1").ljust(16, b"\0")
    selector = bytes(40) + struct.pack("=HBBB3xiI", socket.AF_INET, 0, 0, 0, 0, 0)
    identity = loopback + struct.pack("!IB3x", 0x100, socket.IPPROTO_ESP)
    rest = loopback + b"\xff" * 32 + bytes(32 + 32 + 12)
    state = selector + identity + rest + struct.pack("=IIHBBB7x", 0, 0, socket.AF_INET, 0, 0, 0)
    body = state + attribute(_AEAD, _SHORT_KEY)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_XFRM) as xfrm:
            xfrm.settimeout(5)
            xfrm.send(message(_NEW_STATE, _REQUEST_WITH_ANSWER, 1, body))
            answer = xfrm.recv(4096)
    except OSError:
        # The kernel was built without XFRM.
        return False
    (kind,) = struct.unpack_from("=4xH", answer)
    (code,) = struct.unpack_from("=i", answer, 16)
    return bool(kind == _NLMSG_ERROR and -code == errno.EINVAL)

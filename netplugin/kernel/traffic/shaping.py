"""Rates of links: a token bucket where frames leave, and one on an ifb device for those that are redirected to it.

What a container receives leaves the host by its staying end, or enters the bridge from above: the link's root qdisc.
What it sends arrives there, and the kernel queues only what leaves; so `redirects` sends it to an ifb device.
Source: tc-tbf(8), linux/ifb.c.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable

from netplugin.kernel.netlink import Netlink
from netplugin.kernel.rtnetlink.links import Link
from netplugin.resources import Shaper
from pluginkit.errors import Conflict, NotFound

_IFB_NAME = re.compile(r"pn[io][0-9A-Za-z]{8}")
_ALIAS = "pynet shaper of "
# "PY": what nobody else calls his qdisc.
_HANDLE = 0x5059 << 16
_ROOT = 0xFFFFFFFF
_ETHERNET_BYTES = 18
_LATENCY_S = 0.05
_BURST_S = 0.01
_BURST_FRAMES = 10
_HIGHEST_BYTES_PER_S = 2**32 - 1


class Shapers:
    """The rates of the links of this network namespace."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink

    def ensure(self, want: Shaper) -> None:
        """The link's traffic is held to the wanted rates. A change of rates loses no packet that is queued.

        Raises: NotFound: there is no such link; Conflict: somebody else shapes it, or has a device of the ifb's name.
        """
        link = self._netlink.link(want.link)
        if link is None:
            raise NotFound(f"cannot shape {want.link}: the link is gone; send SIGHUP to restore it")
        if want.ingress_bits_per_s is None:
            self._remove_bucket(link)
        else:
            self._ensure_bucket(link, link.mtu, want.ingress_bits_per_s, want.burst_bytes)
        if want.egress_bits_per_s is None:
            self._remove_ifb(want)
        else:
            ifb = self._ensure_ifb(want)
            self._ensure_bucket(ifb, link.mtu, want.egress_bits_per_s, want.burst_bytes)

    def remove(self, want: Shaper) -> None:
        """The link, if it exists, is not shaped by us and the ifb device does not exist."""
        link = self._netlink.link(want.link) if want.link else None
        if link is not None:
            self._remove_bucket(link)
        self._remove_ifb(want)

    def owned(self) -> Iterable[Shaper]:
        """Return a shaper for each ifb device and each bucket that is ours; link is "" for a device never finished."""
        ifbs = [
            ifb
            for ifb in self._netlink.links.every("ifb")
            if _IFB_NAME.fullmatch(ifb.name) and (not ifb.alias or ifb.alias.startswith(_ALIAS))
        ]
        found = {ifb.name: Shaper(ifb.alias.removeprefix(_ALIAS), ifb.name, None, None) for ifb in ifbs}
        shaped = {shaper.link for shaper in found.values()} | found.keys()
        buckets = [Shaper(name, "", None, None) for name in self._links_with_buckets() if name not in shaped]
        return [*found.values(), *buckets]

    def _links_with_buckets(self) -> list[str]:
        ours = (qdisc for qdisc in self._netlink.qdiscs() if (qdisc.handle, qdisc.parent) == (_HANDLE, _ROOT))
        indices = {qdisc.index for qdisc in ours}
        return [link.name for link in self._netlink.links.every() if link.index in indices] if indices else []

    def _ensure_bucket(self, link: Link, mtu: int, bits_per_s: int, burst_bytes: int | None) -> None:
        rate = min(bits_per_s // 8, _HIGHEST_BYTES_PER_S)
        burst = _burst(rate, mtu, burst_bytes)
        # Beyond the burst the queue holds what leaves within the latency; the shortest still takes some full frames.
        limit = burst + max(int(rate * _LATENCY_S), burst, _BURST_FRAMES * mtu)
        bucket = {"index": link.index, "handle": _HANDLE, "parent": _ROOT, "rate": rate, "burst": burst, "limit": limit}
        # A change in place keeps the queue; to replace the qdisc by another would empty it.
        changed = False
        with self._netlink.request("shape", link.name, ignore=(errno.ENOENT,)) as socket:
            socket.tc("change", "tbf", **bucket)
            changed = True
        if changed:
            return
        added = False
        with self._netlink.request("shape", link.name, ignore=(errno.EEXIST,)) as socket:
            socket.tc("add" if link.kind != "ifb" else "replace", "tbf", **bucket)
            added = True
        if not added:
            raise Conflict(
                f"cannot shape {link.name}: it has a qdisc of somebody else; delete it with"
                f" `tc qdisc del dev {link.name} root` or leave the rates out"
            )

    def _remove_bucket(self, link: Link) -> None:
        # EINVAL: the root has another handle, so it is the kernel's default or somebody else's.
        with self._netlink.request(
            "stop shaping", link.name, ignore=(errno.ENOENT, errno.EINVAL, errno.ENODEV)
        ) as socket:
            socket.tc("del", index=link.index, handle=_HANDLE, parent=_ROOT)

    def _ensure_ifb(self, want: Shaper) -> Link:
        with self._netlink.request("create ifb", want.ifb, ignore=(errno.EEXIST,)) as socket:
            socket.link("add", ifname=want.ifb, kind="ifb")
        ifb = self._netlink.link(want.ifb)
        alias = _ALIAS + want.link
        if ifb is None or ifb.kind != "ifb" or ifb.alias not in ("", alias):
            raise Conflict(
                f"cannot create ifb {want.ifb}: a link of that name exists and belongs to"
                f" {ifb.alias or 'somebody else' if ifb else 'nobody'}; rename or delete it"
            )
        if (ifb.up, ifb.alias) != (True, alias):
            with self._netlink.request("set up", want.ifb) as socket:
                socket.link("set", index=ifb.index, ifalias=alias, state="up")
        return ifb

    def _remove_ifb(self, want: Shaper) -> None:
        ifb = self._netlink.link(want.ifb) if want.ifb else None
        if ifb is not None and ifb.kind == "ifb" and ifb.alias in ("", _ALIAS + want.link):
            with self._netlink.request("delete ifb", want.ifb, ignore=(errno.ENODEV,)) as socket:
                socket.link("del", index=ifb.index)


def _burst(rate: int, mtu: int, wanted: int | None) -> int:
    """Return the size of a bucket in bytes: at least two frames, because a frame that is bigger would never pass.

    By default 10 ms worth, which is what comes between two ticks of the slowest clock (HZ=100), but ten frames at
    least: a smaller bucket overflows while a busy machine is late to serve the queue, and the rate is not reached.
    """
    frame = mtu + _ETHERNET_BYTES
    # The kernel counts in ticks of 64 ns and rounds down: one frame exactly could be a byte too small.
    return max(int(rate * _BURST_S), _BURST_FRAMES * frame) if wanted is None else max(wanted, 2 * frame)

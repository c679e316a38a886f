"""Guards on bridge ports: frames enter only with the MAC and the addresses of the endpoint behind the port.

One nf_tables table of the bridge family has all the rules, once; what differs between endpoints are elements of its
sets, so neither a frame nor a change costs more with more endpoints. What is dropped is dropped before the bridge
learns its source. Source: nft(8); RFC 826, 5227 (ARP); 4861, 4862, 3810 (ND, MLD); 2131, 8415 (DHCP).
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from netplugin.kernel.firewall.nfnetlink import Batch, Element, Nfnetlink, concat, ifname
from netplugin.kernel.netlink import Netlink
from netplugin.resources import SourceGuard
from pluginkit.command import run
from pluginkit.errors import KernelError, NotFound

TABLE = "pynet_guard"
# Most of the reasons alone would be words of the nft language.
_COUNTER = "drop_"
Reason = Literal["mac", "ethertype", "arp", "ipv4", "ipv6", "nd", "router", "dhcp"]
_SetName = Literal["ports", "macs", "options", "addresses4", "addresses6", "targets6"]
_SETS: tuple[_SetName, ...] = ("ports", "macs", "options", "addresses4", "addresses6", "targets6")
# What the bridge keeps to itself passes no rule, yet it learns from it: a frame to such a group could move the MAC of a
# neighbour to another port. So it is to forward them all, which the rules prevent. Pause frames (1) it always drops.
_ALL_GROUPS = 0xFFFD
# What a set of a guard has, by the set.
_Keys = dict[_SetName, frozenset[bytes]]

# options are the link-layer addresses inside of ND messages, targets6 the addresses that those speak of; nft has no
# words for either, hence sets of their own with the type of raw bytes.
_TEXT = """
table bridge pynet_guard {
    set ports { type ifname; }
    set macs { type ifname . ether_addr; }
    set options { typeof iifname . @th,208,48; }
    set addresses4 { type ifname . ipv4_addr; }
    set addresses6 { type ifname . ipv6_addr; }
    set targets6 { typeof iifname . @th,64,128; }
    counter drop_mac { }
    counter drop_ethertype { }
    counter drop_arp { }
    counter drop_ipv4 { }
    counter drop_ipv6 { }
    counter drop_nd { }
    counter drop_router { }
    counter drop_dhcp { }
    chain arp_frames { }
    chain ipv4_frames { }
    chain ipv6_frames { }
    chain ipv6_unspecified { }
    chain nd_frames { }
    chain prerouting { type filter hook prerouting priority -300; policy accept; }
}
flush table bridge pynet_guard
table bridge pynet_guard {
    chain arp_frames {
        arp htype != 1 counter name drop_arp drop
        arp ptype != ip counter name drop_arp drop
        arp hlen != 6 counter name drop_arp drop
        arp plen != 4 counter name drop_arp drop
        iifname . arp saddr ether != @macs counter name drop_arp drop
        iifname . arp saddr ip @addresses4 accept
        # A probe asks whether an address is free and tells nobody anything.
        arp saddr ip 0.0.0.0 arp operation request accept
        counter name drop_arp drop
    }
    chain ipv4_frames {
        iifname . ip saddr != @addresses4 counter name drop_ipv4 drop
        udp sport 67 udp dport 68 counter name drop_dhcp drop
    }
    chain ipv6_frames {
        icmpv6 type { nd-router-advert, nd-redirect } counter name drop_router drop
        ip6 saddr :: goto ipv6_unspecified
        iifname . ip6 saddr != @addresses6 counter name drop_ipv6 drop
        icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } goto nd_frames
        udp sport 547 udp dport 546 counter name drop_dhcp drop
    }
    # Who has no address yet asks whether its own is free, and joins that address's multicast group.
    chain ipv6_unspecified {
        icmpv6 type nd-neighbor-solicit iifname . @th,64,128 @targets6 accept
        icmpv6 type { mld-listener-report, mld-listener-done, mld2-listener-report } accept
        counter name drop_ipv6 drop
    }
    # No longer than with one link-layer address, its own: nobody sends anything else, be it a second option or an
    # extension header, and receivers would believe the second.
    chain nd_frames {
        icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @targets6 counter name drop_nd drop
        icmpv6 type nd-router-solicit ip6 length 8 accept
        icmpv6 type nd-router-solicit ip6 length 16 @th,64,16 0x0101 iifname . @th,80,48 @options accept
        icmpv6 type nd-neighbor-solicit ip6 length 24 accept
        icmpv6 type nd-neighbor-solicit ip6 length 32 @th,192,16 0x0101 iifname . @th,208,48 @options accept
        icmpv6 type nd-neighbor-advert ip6 length 24 accept
        icmpv6 type nd-neighbor-advert ip6 length 32 @th,192,16 0x0201 iifname . @th,208,48 @options accept
        counter name drop_nd drop
    }
    chain prerouting {
        iifname != @ports accept
        iifname . ether saddr != @macs counter name drop_mac drop
        # A tagged frame is of none of these types: its addresses stand where no rule looks.
        ether type vmap { arp : goto arp_frames, ip : goto ipv4_frames, ip6 : goto ipv6_frames }
        counter name drop_ethertype drop
    }
}
"""


class SourceGuards:
    """The guards of this network namespace."""

    def __init__(self, netlink: Netlink, nfnetlink: Nfnetlink) -> None:
        self._netlink = netlink
        self._nfnetlink = nfnetlink
        self._lock = threading.Lock()
        # What is in the sets, by link. Read anew by every `owned`; a table of thousands takes long to read.
        self._have: dict[str, _Keys] | None = None
        # The listing of the table after it was written; "" until then, or when it was found to be different.
        self._listing = ""

    def ensure(self, want: SourceGuard) -> None:
        """Frames enter from the link only with the wanted addresses.

        Raises: NotFound: there is no such link. KernelError: the kernel or the nft program refused; the message says
        what is missing.
        """
        wanted = _keys(want)
        if not self._forward_groups(want.link, _ALL_GROUPS):
            raise NotFound(f"cannot guard {want.link}: the link is gone; send SIGHUP to restore it")
        with self._lock:
            if not self._listing:
                self._write()
            if self._have is None:
                self._have = self._read()
            try:
                self._change(want.link, wanted)
            except KernelError as exc:
                if exc.code != errno.ENOENT:
                    raise
                # Somebody deleted the table, and with it all the others' elements, which come back when it is their
                # turn to be ensured.
                self._write()
                self._have = {}
                self._change(want.link, wanted)

    def remove(self, want: SourceGuard) -> None:
        """The link is not guarded; without any guard the table does not exist."""
        with self._lock:
            if self._have is None:
                self._have = self._read()
            self._change(want.link, {})
        self._forward_groups(want.link, 0)

    def owned(self) -> Iterable[SourceGuard]:
        """Return the guards in the kernel. If the rules are not what they should be the next `ensure` restores them."""
        with self._lock:
            self._have = self._read()
            if self._have and self._listing and self._listing != _list():
                self._listing = ""
            return [_guard(link, keys) for link, keys in self._have.items()]

    def dropped(self) -> Mapping[Reason, int]:
        """Return how many frames were dropped, by reason, since the table was made; nothing without a table."""
        done = run(["nft", "-j", "list", "counters", "table", "bridge", TABLE], accept=(0, 1))
        if done.returncode:
            return {}
        entries = [entry["counter"] for entry in json.loads(done.stdout)["nftables"] if "counter" in entry]
        return {entry["name"].removeprefix(_COUNTER): entry["packets"] for entry in entries}

    def _forward_groups(self, name: str, mask: int) -> bool:
        """The port forwards frames to those of the groups 01:80:c2:00:00:0X in `mask`; return whether it exists."""
        link = self._netlink.link(name)
        if link is None or not link.master:
            return False
        with self._netlink.request("set the port flags of", name, ignore=(errno.ENODEV,)) as socket:
            socket.brport("set", index=link.index, group_fwd_mask=mask)
        return True

    def _change(self, link: str, wanted: _Keys) -> None:
        """The link's elements are the wanted ones, all at once; with the last guard the table goes."""
        assert self._have is not None
        old = self._have.get(link, {})
        batch = Batch()
        for name in _SETS:
            stale = old.get(name, frozenset()) - wanted.get(name, frozenset())
            batch.delete("bridge", TABLE, name, map(Element, stale))
            # Those that should be there are written again: somebody may have deleted them.
            batch.add("bridge", TABLE, name, map(Element, wanted.get(name, ())))
        is_last = not wanted and not self._have.keys() - {link}
        if is_last:
            batch.delete_table("bridge", TABLE)
        self._nfnetlink.commit(batch)
        if wanted:
            self._have[link] = wanted
        else:
            self._have.pop(link, None)
        if is_last:
            self._listing = ""

    def _read(self) -> dict[str, _Keys]:
        have: dict[str, _Keys] = {}
        for name in _SETS:
            for element in self._nfnetlink.elements("bridge", TABLE, name):
                keys = have.setdefault(element.key[:16].rstrip(b"\0").decode("ascii", "replace"), {})
                keys[name] = keys.get(name, frozenset()) | {element.key}
        return have

    def _write(self) -> None:
        """The table has its sets, which keep their elements, and exactly these rules."""
        # An error of nft is its first line; below that it repeats what it read.
        done = run(["nft", "-f", "-"], stdin=_TEXT, accept=(0, 1), started=self._nfnetlink.changing)
        if done.returncode:
            known = (errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EPERM, errno.ENOENT)
            raise KernelError(
                "create",
                f"table bridge {TABLE}",
                next((code for code in known if os.strerror(code) in done.stderr), 0),
                "anti_spoof needs nf_tables for bridges in the kernel (CONFIG_NF_TABLES_BRIDGE) and nft 1.0.6 or newer;"
                f" leave it out without them; nft says: {done.stderr.partition(chr(10))[0]}",
            )
        self._listing = _list()


def _list() -> str:
    """Return the table's rules and sets, without elements and counts; "" if there is no table."""
    return run(["nft", "-s", "-t", "list", "table", "bridge", TABLE], accept=(0, 1)).stdout


def _keys(want: SourceGuard) -> _Keys:
    link, mac = ifname(want.link), bytes.fromhex(want.mac.replace(":", ""))
    own6 = [address.packed for address in (*want.addresses6, _link_local(mac))]
    return {
        "ports": frozenset([link]),
        "macs": frozenset([concat(link, mac)]),
        "options": frozenset([concat(link, mac)]),
        "addresses4": frozenset(concat(link, address.packed) for address in want.addresses4),
        "addresses6": frozenset(concat(link, address) for address in own6),
        "targets6": frozenset(concat(link, address) for address in own6),
    }


def _guard(link: str, keys: _Keys) -> SourceGuard:
    """Return what the elements of a link say; with the empty MAC if there is none."""
    macs = [key[16:22] for key in keys.get("macs", ())]
    own = {_link_local(mac) for mac in macs}
    addresses6 = {IPv6Address(key[16:32]) for key in keys.get("addresses6", ())} - own
    return SourceGuard(
        link,
        macs[0].hex(":") if macs else "",
        tuple(sorted(IPv4Address(key[16:20]) for key in keys.get("addresses4", ()))),
        tuple(sorted(addresses6)),
    )


def _link_local(mac: bytes) -> IPv6Address:
    """Return the link-local address that a host forms from its MAC. Source: RFC 4291 appendix A."""
    return IPv6Address(b"\xfe\x80" + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:])

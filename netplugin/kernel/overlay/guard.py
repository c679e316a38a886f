"""Guards of overlays: VXLAN packets of a VNI come in from its members only, and no frame with the bridge's own address.

Packets to and from the hosts of encrypted overlays come and go by the WireGuard link alone, and are nobody else's.

Between hosts of a network without multicast no frame for many passes but ARP and neighbour discovery. A container asks
the network's name server 200 times a second at most. Probes of containers get their sign.

Each table has its rules once; what differs between networks are elements of its sets, with the name of the VXLAN device
as their comment. The kernel itself drops packets of a VNI without a device. Source: nft(8); RFC 7348 section 5.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from netplugin.kernel.firewall.nfnetlink import Batch, Element, Nfnetlink, TableFamily, concat, ifname
from netplugin.kernel.overlay.probes import PROBE
from netplugin.overlay.tunnel import LINK, PREFIX
from netplugin.resources import OverlayGuard, OverlayMember
from pluginkit.command import run
from pluginkit.errors import KernelError

TABLE = "pynet_overlay"
_FAMILIES: tuple[TableFamily, ...] = ("inet", "bridge")
_SETS: tuple[tuple[TableFamily, str], ...] = (
    ("inet", "networks"),
    ("inet", "members4"),
    ("inet", "members6"),
    ("bridge", "own"),
    ("bridge", "quiet"),
    ("bridge", "asked4"),
    ("bridge", "asked6"),
)
# Before connection tracking, which has nothing to remember of these packets. @th,96,24 is the VNI.
_TEXT = """
table inet pynet_overlay {
    set networks { typeof udp dport . @th,96,24; }
    set members4 { typeof ip saddr . udp dport . @th,96,24; }
    set members6 { typeof ip6 saddr . udp dport . @th,96,24; }
    counter strangers { }
    counter cleartext { }
    chain members { }
    chain prerouting { type filter hook prerouting priority -300; policy accept; }
    chain forward { type filter hook forward priority -300; policy accept; }
    chain postrouting { type filter hook postrouting priority 300; policy accept; }
}
flush table inet pynet_overlay
table inet pynet_overlay {
    chain members {
        ip saddr . udp dport . @th,96,24 @members4 accept
        ip6 saddr . udp dport . @th,96,24 @members6 accept
        counter name strangers drop
    }
    chain prerouting {
        udp dport . @th,96,24 @networks iifname $tunnel ip6 saddr $inside goto members
        # Who has a key is let in for its networks, and nothing else.
        iifname $tunnel counter name strangers drop
        ip6 saddr $inside counter name cleartext drop
        ip6 daddr $inside counter name cleartext drop
        udp dport . @th,96,24 @networks goto members
    }
    chain forward {
        # A container could speak as its host.
        ip6 daddr $inside counter name cleartext drop
    }
    chain postrouting {
        # Whatever the routes say, as when the link is gone.
        ip6 daddr $inside oifname != $tunnel counter name cleartext drop
        ip6 saddr $inside oifname != $tunnel counter name cleartext drop
    }
}
table bridge pynet_overlay {
    set own { type ifname . ether_addr; }
    set quiet { type ifname; }
    set asked4 { type ether_addr . ipv4_addr; }
    set asked6 { type ether_addr . ipv6_addr; }
    set askers { type ifname; size 65535; flags dynamic,timeout; timeout 1m; }
    chain prerouting { type filter hook prerouting priority -300; policy accept; }
    chain input { type filter hook input priority -300; policy accept; }
    chain postrouting { type filter hook postrouting priority -300; policy accept; }
    chain many { }
    chain probes { }
    chain asking { }
}
flush table bridge pynet_overlay
table bridge pynet_overlay {
    chain many {
        ether type arp accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        drop
    }
    chain asking {
        # By the port of the bridge, the only thing in a frame that no container can choose.
        update @askers { iifname limit rate over 200/second burst 200 packets } drop
    }
    chain input {
        iifname "pnv*" jump probes
    }
    chain probes {
        arp operation request arp saddr ip 0.0.0.0 meta priority set $probe
        ip6 saddr :: icmpv6 type nd-neighbor-solicit meta priority set $probe
        # Not solicited: what answers such a question, which has no sender.
        icmpv6 type nd-neighbor-advert ip6 daddr ff02::1 @th,33,1 0 meta priority set $probe
    }
    chain postrouting {
        oifname @quiet ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 goto many
    }
    chain prerouting {
        # A host with the same gateway asks in its name; the bridge would wonder about its own address out there.
        iifname . ether saddr @own drop
        iifname @quiet ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 goto many
        meta l4proto { tcp, udp } th dport 53 ether daddr . ip daddr @asked4 jump asking
        meta l4proto { tcp, udp } th dport 53 ether daddr . ip6 daddr @asked6 jump asking
    }
}
"""

_DEFINITIONS = f'define probe = {PROBE}\ndefine tunnel = "{LINK}"\ndefine inside = {PREFIX}\n'
_OF_GUARD = ("networks", "own", "quiet", "asked4", "asked6")
# Table, set and key of elements.
_Keys = set[tuple[TableFamily, str, bytes]]


class OverlayGuards:
    """The guards of this network namespace, and their members."""

    def __init__(self, nfnetlink: Nfnetlink) -> None:
        self._nfnetlink = nfnetlink
        self._lock = threading.Lock()
        # The listing of the tables after they were written; "" until then, or when they were found to be different.
        self._listing = ""

    def ensure(self, want: OverlayGuard | OverlayMember) -> None:
        """Packets and frames come in by the device from its members only, of which the wanted one is one.

        Raises: KernelError: the kernel or the nft program refused; the message says what is missing.
        """
        wanted = set(_elements(want))
        with self._lock:
            if not self._listing:
                self._write()
            stale = {element for element in self._of(want) if element not in wanted}
            try:
                self._change(want.link, stale, wanted)
            except KernelError as exc:
                if exc.code != errno.ENOENT:
                    raise
                # Somebody deleted a table; the others' elements come back when it is their turn to be ensured.
                self._write()
                self._change(want.link, stale, wanted)

    def remove(self, want: OverlayGuard | OverlayMember) -> None:
        """The device is not guarded, or that host no member; without any of both the tables do not exist."""
        with self._lock:
            self._change(want.link, self._of(want), set())
            if not self._read():
                batch = Batch()
                for family in _FAMILIES:
                    batch.delete_table(family, TABLE)
                self._nfnetlink.commit(batch)
                self._listing = ""

    def owned(self) -> Iterable[OverlayGuard | OverlayMember]:
        """Return guards and members in the kernel.

        If the rules are not what they should be the next `ensure` restores them.
        """
        with self._lock:
            if self._listing and self._listing != _list():
                self._listing = ""
            found = self._read()
        guards = {link for link, keys in found.items() if any(name in _OF_GUARD for _, name, _ in keys)}
        members = {(link, name, key) for link, keys in found.items() for _, name, key in keys if name not in _OF_GUARD}
        return [
            *(OverlayGuard(link, "", 0, 0) for link in sorted(guards)),
            *(OverlayMember(link, 0, 0, _vtep(name, key)) for link, name, key in sorted(members)),
        ]

    def _of(self, want: OverlayGuard | OverlayMember) -> _Keys:
        """Return the elements of one guard or member, with whatever VNI and port."""
        have = self._read().get(want.link, set())
        if isinstance(want, OverlayGuard):
            return {element for element in have if element[1] in _OF_GUARD}
        return {element for element in have if element[1] not in _OF_GUARD and _vtep(*element[1:]) == want.vtep}

    def _change(self, link: str, stale: _Keys, wanted: _Keys) -> None:
        batch = Batch()
        for family, name in _SETS:
            gone = [key for where, of, key in stale if (where, of) == (family, name)]
            batch.delete(family, TABLE, name, map(Element, gone))
            # Those that should be there are written again: somebody may have deleted them.
            there = [key for where, of, key in wanted if (where, of) == (family, name)]
            batch.add(family, TABLE, name, (Element(key, comment=link) for key in there))
        self._nfnetlink.commit(batch)

    def _read(self) -> dict[str, _Keys]:
        found: dict[str, _Keys] = {}
        for family, name in _SETS:
            for element in self._nfnetlink.elements(family, TABLE, name):
                found.setdefault(element.comment, set()).add((family, name, element.key))
        return found

    def _write(self) -> None:
        """The tables have their sets, which keep their elements, and exactly these rules."""
        done = run(["nft", "-f", "-"], stdin=f"{_DEFINITIONS}{_TEXT}", accept=(0, 1), started=self._nfnetlink.changing)
        if done.returncode:
            raise KernelError(
                "create",
                f"table {TABLE}",
                0,
                "an overlay needs nf_tables in the kernel (CONFIG_NF_TABLES_INET, CONFIG_NF_TABLES_BRIDGE) and nft"
                f" 1.0.6 or newer; nft says: {done.stderr.partition(chr(10))[0]}",
            )
        self._listing = _list()


def _list() -> str:
    """Return the rules and sets of both tables, without elements and counts."""
    return "".join(
        run(["nft", "-s", "-t", "list", "table", family, TABLE], accept=(0, 1)).stdout for family in _FAMILIES
    )


def _vtep(name: str, key: bytes) -> str:
    return str(ip_address(key[: 4 if name == "members4" else 16]))


def _elements(want: OverlayGuard | OverlayMember) -> Iterator[tuple[TableFamily, str, bytes]]:
    network = (want.port.to_bytes(2), want.vni.to_bytes(3))
    if isinstance(want, OverlayMember):
        vtep = ip_address(want.vtep)
        yield "inet", f"members{vtep.version}", concat(vtep.packed, *network)
        return
    yield "inet", "networks", concat(*network)
    mac = bytes.fromhex(want.mac.replace(":", ""))
    yield "bridge", "own", concat(ifname(want.link), mac)
    for address in want.names:
        yield "bridge", f"asked{address.version}", concat(mac, address.packed)
    if not want.multicast:
        yield "bridge", "quiet", ifname(want.link)

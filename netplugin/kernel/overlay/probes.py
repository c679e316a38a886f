"""Probes get to other hosts: who asks whether an address is taken is answered, wherever the one is that has it.

A port with neigh_suppress passes no ARP request without a sender, no look for IPv6 duplicates, and no advertisement
that answers one. So the guards' rules give those of our endpoints a sign on their way up to the bridge itself, and what
has it there leaves by the device as well. Source: net/bridge/br_arp_nd_proxy.c; nft(8), DUP STATEMENT; RFC 5227, 4862.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable

from netplugin.kernel.firewall.nfnetlink import Nfnetlink
from netplugin.kernel.rtnetlink.links import index_of
from netplugin.resources import OverlayProbes
from pluginkit.command import run
from pluginkit.errors import KernelError, NotFound

# A priority, which nobody looks at on the way up, as they do at marks. It is gone again when the frame leaves.
PROBE = "7079:6e65"
TABLE = "pynet_probes"
_CHAIN = re.compile(r"^\tchain (pnx\w+) \{\n(.*?)^\t\}", re.MULTILINE | re.DOTALL)


class ProbeRelays:
    """The chains of this network namespace, each on one bridge and named after the device in it."""

    def __init__(self, nfnetlink: Nfnetlink) -> None:
        self._nfnetlink = nfnetlink
        self._lock = threading.Lock()
        # By device: the bridge, and the kernel's numbers of both when the chain was written. They know no names.
        self._have: dict[str, tuple[str, int, int]] = {}

    def ensure(self, want: OverlayProbes) -> None:
        """What has the sign on the bridge leaves by the device.

        Raises: NotFound: one of both is gone. KernelError: the kernel refused; the message says what is missing.
        """
        have = want.bridge, index_of(want.bridge), index_of(want.link)
        if not all(have):
            raise NotFound(f"cannot pass probes on by {want.link}: it or its bridge is gone; send SIGHUP to restore it")
        with self._lock:
            if self._have.get(want.link) == have:
                return
            done = run(["nft", "-f", "-"], stdin=_text(want), accept=(0, 1), started=self._nfnetlink.changing)
            if done.returncode:
                raise KernelError(
                    "create",
                    f"chain {want.link} of table {TABLE}",
                    0,
                    "an overlay needs CONFIG_NF_TABLES_NETDEV and CONFIG_NFT_DUP_NETDEV in the kernel; nft says:"
                    f" {done.stderr.partition(chr(10))[0]}",
                )
            self._have[want.link] = have

    def remove(self, want: OverlayProbes) -> None:
        """Probes stay on the bridge; without any of ours the table does not exist."""
        with self._lock:
            self._have.pop(want.link, None)
            listed = self._list()
            left = set(_chains(listed))
            # A chain goes with its bridge, in some kernels; the table does not.
            if listed and left <= {want.link}:
                run(["nft", "delete", "table", "netdev", TABLE], started=self._nfnetlink.changing)
            elif want.link in left:
                run(["nft", "-f", "-"], stdin=_deletion(want.link), started=self._nfnetlink.changing)

    def owned(self) -> Iterable[OverlayProbes]:
        """Return what is in the kernel; the next `ensure` restores what is not as it should be."""
        with self._lock:
            chains = _chains(self._list())
            for link, (bridge, *_) in list(self._have.items()):
                rules = chains.get(link, "")
                if not all(part in rules for part in (f'"{bridge}"', PROBE, f'dup to "{link}"')):
                    del self._have[link]
        return [OverlayProbes(link, "") for link in chains]

    def _list(self) -> str:
        # A host without overlays need not have the program.
        if not self._nfnetlink.has_table("netdev", TABLE):
            return ""
        return run(["nft", "-s", "list", "table", "netdev", TABLE], accept=(0, 1)).stdout


def _text(want: OverlayProbes) -> str:
    """Return what makes the chain anew: the device that a chain is on cannot be changed."""
    link, bridge = want.link, want.bridge
    hook = f'type filter hook ingress device "{bridge}" priority 0; policy accept;'
    rule = f'meta priority {PROBE} meta priority set none dup to "{link}"'
    empty = f"table netdev {TABLE} {{\n chain {link} {{ {hook} }}\n}}\n"
    return f"{empty}{_deletion(link)}table netdev {TABLE} {{\n chain {link} {{\n  {hook}\n  {rule}\n }}\n}}\n"


def _deletion(link: str) -> str:
    return f"flush chain netdev {TABLE} {link}\ndelete chain netdev {TABLE} {link}\n"


def _chains(listed: str) -> dict[str, str]:
    """Return the text of each chain by its name."""
    return dict(_CHAIN.findall(listed))

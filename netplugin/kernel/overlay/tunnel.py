"""The WireGuard link that carries the packets of encrypted overlays: the kernel's own, or that of wireguard-go.

wg(8) sets both of them up in the same way. A program that carries a link goes on without us, and ends with its link.
Source: wg(8); rtnetlink(7); https://www.wireguard.com/xplatform/.
"""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from netplugin.kernel.netlink import Netlink
from netplugin.kernel.rtnetlink.links import Link
from netplugin.overlay.tunnel import LINK, PORT, PREFIX, Tunnel, TunnelPeer
from pluginkit.command import is_installed, run
from pluginkit.errors import Conflict, KernelError, NotFound, Unavailable

_ALIAS = "pynet tunnel of overlays"
_TUN = Path("/dev/net/tun")
_IPV6 = Path("/proc/sys/net/ipv6/conf")
_HOST_BITS = 128
# No duplicate address detection where nobody else can have the address, and no route but that to all of them.
_NODAD, _NO_ROUTE = 0x02, 0x200
_WAY_OUT = "apt-get install wireguard-tools wireguard-go, or where the kernel has it, modprobe wireguard"


@dataclass
class _Peer:
    """endpoint: where its packets are sent. addresses: those that it may have."""

    endpoint: str
    addresses: set[str]


@dataclass
class _State:
    """What WireGuard says of the link. peers: by public key."""

    private_key: str
    port: str
    peers: dict[str, _Peer] = field(default_factory=dict)


class Tunnels:
    """The link of this network namespace, with its addresses and its peers. private_key: this host's, in base64."""

    def __init__(self, netlink: Netlink, private_key: Callable[[], str]) -> None:
        self._netlink, self._private_key = netlink, private_key
        self._lock = threading.Lock()
        # What `owned` found, until something was changed: among many peers only what is missing is written.
        self._known: _State | None = None

    def ensure(self, want: Tunnel | TunnelPeer) -> None:
        """The link is up with this host's key and bears the address, or a peer of that key may have it.

        Raises: Conflict: somebody else has the link's name, or its port. NotFound: there is no link for the peer yet.
        Unavailable: this host has no WireGuard; the message says how it gets it.
        """
        with self._lock:
            if isinstance(want, TunnelPeer):
                self._let_in(want)
            else:
                self._bear(want)

    def remove(self, want: Tunnel | TunnelPeer) -> None:
        """Nobody has the address; without any of ours the link does not exist."""
        with self._lock:
            link = self._own_link()
            if link is None:
                return
            if isinstance(want, TunnelPeer):
                self._keep_out(want)
                return
            if want.address:
                gone = (errno.EADDRNOTAVAIL, errno.ENODEV)
                with self._netlink.request(f"remove {want.address} from", LINK, ignore=gone) as rtnetlink:
                    rtnetlink.addr("del", index=link.index, address=want.address, prefixlen=_HOST_BITS)
            if not self._addresses(link):
                self._delete()

    def owned(self) -> Iterable[Tunnel | TunnelPeer]:
        """Return the addresses of the link and those of its peers, whoever set them."""
        with self._lock:
            self._known = None
            try:
                link = self._own_link()
            except Conflict:
                # Somebody else's, which only who needs one is told of.
                link = None
            if link is None:
                return []
            state = self._state()
            own = [Tunnel(address, link.mtu) for address in sorted(self._addresses(link))]
            peers = [
                TunnelPeer(address, key, peer.endpoint)
                for key, peer in (state.peers if state else {}).items()
                for address in sorted(peer.addresses) or [""]
            ]
            return [*(own or [Tunnel("", link.mtu)]), *peers]

    def _bear(self, want: Tunnel) -> None:
        link = self._own_link()
        if link is not None and self._state() is None:
            # Nobody answers for it: whoever carried it hangs, or the place is gone where it is asked.
            self._delete()
            link = None
        if link is None:
            link = self._create()
        key = self._private_key()
        state = self._state()
        if state is None or (state.private_key, state.port) != (key, str(PORT)):
            self._set("listen-port", str(PORT), "private-key", "/dev/stdin", stdin=key)
        mtu = max(link.mtu, want.mtu) if link.alias else want.mtu
        if (link.up, link.mtu, link.alias) != (True, mtu, _ALIAS):
            with self._netlink.request("set up", LINK) as rtnetlink:
                rtnetlink.link("set", index=link.index, mtu=mtu, ifalias=_ALIAS, state="up")
        # A host that has IPv6 switched off for new links.
        switch = _IPV6 / LINK / "disable_ipv6"
        try:
            if switch.read_text(encoding="ascii").strip() != "0":
                switch.write_text("0", encoding="ascii")
        except OSError as exc:
            raise KernelError("use IPv6 on", LINK, exc.errno or 0, "encrypted overlays need it") from exc
        with self._netlink.request(f"add {want.address} to", LINK, ignore=(errno.EEXIST,)) as rtnetlink:
            rtnetlink.addr(
                "add", index=link.index, address=want.address, prefixlen=_HOST_BITS, flags=_NODAD | _NO_ROUTE
            )
        with self._netlink.request("lead encrypted packets to", LINK) as rtnetlink:
            rtnetlink.route("replace", dst=str(PREFIX), oif=link.index, family=socket.AF_INET6)

    def _let_in(self, want: TunnelPeer) -> None:
        state = self._state() if self._own_link() is not None else None
        if state is None:
            raise NotFound(f"cannot let {want.address} in: {LINK} is gone; send SIGHUP to restore it")
        peer = state.peers.get(want.public_key, _Peer("", set()))
        if peer.endpoint == want.endpoint and want.address in peer.addresses:
            return
        addresses = ",".join(sorted({*peer.addresses, want.address}))
        words = ["peer", want.public_key, "endpoint", want.endpoint, "allowed-ips", addresses]
        for former, had in state.peers.items():
            # The host has another key by now.
            if former != want.public_key and had.addresses == {want.address}:
                words += ["peer", former, "remove"]
        self._set(*words)

    def _keep_out(self, want: TunnelPeer) -> None:
        state = self._state()
        for key, peer in (state.peers if state else {}).items():
            if want.address in peer.addresses or (not peer.addresses and key == want.public_key):
                left = sorted(peer.addresses - {want.address})
                self._set("peer", key, *(["allowed-ips", ",".join(left)] if left else ["remove"]))

    def _create(self) -> Link:
        """The link exists, without anything on it."""
        _check_port()
        self._known = None
        if missing := lack(self._netlink):
            raise Unavailable(f"cannot create {LINK}: {missing}")
        if not _has_kernel(self._netlink, LINK):
            # It goes on in a session of its own, when it has made the link; told how loud to be, it kept our pipes.
            run(["setsid", "--wait", "env", "-u", "LOG_LEVEL", "wireguard-go", LINK])
        link = self._own_link()
        if link is None:
            raise Unavailable(f"cannot create {LINK}: it was gone at once; what does wireguard-go --foreground say?")
        return link

    def _delete(self) -> None:
        self._known = None
        with self._netlink.request("delete", LINK, ignore=(errno.ENODEV,)) as rtnetlink:
            rtnetlink.link("del", ifname=LINK)

    def _own_link(self) -> Link | None:
        """Return the link, None if there is none. Raises: Conflict: it is somebody else's."""
        link = self._netlink.link(LINK)
        if link is not None and (link.kind not in ("wireguard", "tun") or link.alias not in ("", _ALIAS)):
            raise Conflict(
                f"cannot use {LINK}: a link of that name exists and belongs to {link.alias or 'somebody else'}; rename"
                " or delete it"
            )
        return link

    def _addresses(self, link: Link) -> set[str]:
        return {str(each.ip) for each in self._netlink.links.addresses(LINK, link.index) if each.ip in PREFIX}

    def _state(self) -> _State | None:
        """Return what WireGuard says of the link; None if it says nothing."""
        if self._known is None:
            done = run(["wg", "show", LINK, "dump"], accept=(0, 1))
            self._known = _parse(done.stdout) if done.returncode == 0 else None
        return self._known

    def _set(self, *words: str, stdin: str = "") -> None:
        self._known = None
        run(["wg", "set", LINK, *words], stdin=stdin)


def peers_of(netlink: Netlink) -> frozenset[TunnelPeer]:
    """Return the peers of this host's link."""
    return frozenset(one for one in Tunnels(netlink, str).owned() if isinstance(one, TunnelPeer))


def lack(netlink: Netlink) -> str:
    """Return what this host lacks for encrypted overlays, and how it gets it; "" if it lacks nothing."""
    if not _IPV6.exists():
        return "encrypted overlays need IPv6 in the kernel, which may be switched off at boot (ipv6.disable=1)"
    if not is_installed("wg"):
        return f"the program wg is not installed, as in a managed plugin: {_WAY_OUT}"
    if netlink.link(LINK) is not None or _has_kernel(netlink, "pn-probe"):
        return ""
    if not is_installed("wireguard-go"):
        return f"this kernel has no WireGuard, and the program wireguard-go is not installed: {_WAY_OUT}"
    if not _TUN.exists():
        return (
            f"this kernel has no WireGuard, and wireguard-go needs {_TUN}, which pynet does not see: modprobe tun, and"
            " under systemd what docs/overlay.md says of it"
        )
    return ""


def _has_kernel(netlink: Netlink, name: str) -> bool:
    """Return whether the kernel made a link of that name; one to see whether it can is gone again."""
    try:
        with netlink.request("create", name, ignore=(errno.EEXIST,)) as rtnetlink:
            rtnetlink.link("add", ifname=name, kind="wireguard")
    except KernelError:
        return False
    if name != LINK:
        with netlink.request("delete", name, ignore=(errno.ENODEV,)) as rtnetlink:
            rtnetlink.link("del", ifname=name)
    return True


def _check_port() -> None:
    """Nobody has the port. Raises: Conflict: somebody has: wireguard-go would tell that nobody but its log."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tried:
        try:
            tried.bind(("", PORT))
        except OSError as exc:
            raise Conflict(
                f"cannot open UDP port {PORT} for encrypted overlays: {exc.strerror}; end the program that has it"
            ) from exc


def _parse(dump: str) -> _State:
    """Return what `wg show LINK dump` says: a line of the link, and one for each peer. Source: wg(8)."""
    first, *others = (line.split("\t") for line in dump.splitlines())
    state = _State(first[0], first[2])
    for key, _, endpoint, allowed, *_ in others:
        nets = [] if allowed == "(none)" else allowed.split(",")
        state.peers[key] = _Peer(endpoint, {_spelled(net) for net in nets})
    return state


def _spelled(net: str) -> str:
    """Return an address as everybody spells it, and anything that is not one as it stands."""
    address, _, bits = net.partition("/")
    return str(ip_address(address)) if bits == str(_HOST_BITS) else net

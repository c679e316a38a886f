"""What the kernel can encrypt with is what its own programs make of it, and asking changes nothing."""

import subprocess

from netplugin.kernel.overlay.ciphers import ciphers
from tests.network.sandboxes import command


def succeeds(*words):
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def test_what_this_kernel_has(netlink):
    before = command("ip", "link"), command("ip", "xfrm", "state")
    found = ciphers(netlink)
    assert (command("ip", "link"), command("ip", "xfrm", "state")) == before
    assert ("WireGuard" in found) == succeeds("ip", "link", "add", "wg0", "type", "wireguard")
    ends = ("src", "127.0.0.1", "dst", "127.0.0.1", "proto", "esp", "spi", "0x100")
    aead = ("mode", "transport", "aead", "rfc4106(gcm(aes))", "0x" + "07" * 20, "128")
    assert ("ESP" in found) == succeeds("ip", "xfrm", "state", "add", *ends, *aead)

"""pynet among faults: after each of FAULT_STEPS verbs and faults kernel and records are as a model says.

A few here, a thousand by `make chaos`. The seed is printed; CHAOS_SEED repeats the choices.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from integration.lab.clock import WallClock
from netplugin.firewall.backends import Name
from tests.faults import plugin
from tests.faults.campaign import Campaign
from tests.faults.disk import Disk
from tests.faults.plugin import Chance
from tests.network.kernel_text import found, is_as_recorded, records
from tests.network.sandboxes import command
from tests.reference.networks import ENDPOINTS, HOSTS, NETWORKS, PROTOCOLS, RUNS, SUBNETS, Networks
from tests.reference.step import Step
from tests.serving import Serving, until

SHORT = 24
DISK_MIB = 24
FAULTS = (
    "kill",
    "stop",
    "full",
    "disk_dies",
    "power_cut",
    "read_only",
    "half_a_file",
    "half_a_frame",
    "torn_wal",
    "few_descriptors",
    "clock_jumps",
    "second",
    "lock",
    "rivals",
    "flush",
    "lost_notices",
    "bridge_gone",
    "link_gone",
    "link_busy",
)
FLUSH = "nft flush ruleset; for i in iptables ip6tables; do for t in filter nat mangle; do $i -t $t -F; done; done"
# More than fits into the socket of one who does not read.
FLOOD = "add table ip flood\nadd set ip flood s { type ipv4_addr; }\n" + "".join(
    f"add element ip flood s {{ 10.{number // 250}.{number % 250}.1 }}\n" for number in range(4000)
)
# Others who write rules of their own at the same time.
RIVALS = """
while true; do
    nft 'add table ip rival; delete table ip rival'
    iptables -w -t nat -N RIVAL
    iptables -w -t nat -X RIVAL
    ip link add rival type bridge
    ip link delete rival
done"""


@pytest.mark.timeout(240 + 20 * Chance.steps)
@pytest.mark.usefixtures("mount_namespace", "netns")
@pytest.mark.parametrize("variant", ["iptables", "nftables", *(["iptables-legacy"] if Chance.is_long else [])])
def test_networks_among_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str) -> None:
    firewall: Name = "nftables" if variant == "nftables" else "iptables"
    lock = tmp_path / "xtables.lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", str(lock))
    if variant == "iptables-legacy":
        monkeypatch.setenv("PATH", f"{legacy(tmp_path / 'legacy')}:{os.environ['PATH']}")
    chance = Chance(variant, SHORT, FAULTS)
    empty, clock, disk = found(), WallClock(tmp_path), Disk(tmp_path / "state", DISK_MIB)
    serving = Serving("pynet", tmp_path, "--firewall", firewall, "--reconcile-every", "3600", env=clock.env)
    try:
        serving.start()
        campaign = NetworkCampaign(serving, disk, clock, lock, chance)
        for number in range(chance.steps):
            name = campaign.step()
            print(f"step {number + 1}: {name}")
            is_as_recorded(serving, firewall, f"step {number + 1}, {name}, of seed {chance.seed}")
            campaign.is_as_the_model_says()
        campaign.model.end(serving.ask)
        assert records(serving.state_dir) == ([], [], [])
        is_as_recorded(serving, firewall, f"the end of seed {chance.seed}")
        if firewall == "iptables":
            # Chains that a flush emptied, but did not delete, are the flusher's to want back.
            assert not [line for line in found() if line.startswith("link")]
        else:
            assert found() == empty
        assert plugin.bugs(serving) == 0
        print(f"{variant}: {dict(campaign.done)}")
    finally:
        serving.kill()
        disk.close()


def legacy(directory: Path) -> Path:
    """Return the directory, in which the programs of iptables are those that do without nf_tables."""
    directory.mkdir()
    for name in ("iptables", "ip6tables"):
        for program in (name, f"{name}-save", f"{name}-restore"):
            (directory / program).symlink_to("/usr/sbin/xtables-legacy-multi")
    return directory


class NetworkCampaign(Campaign):
    """lock: the file that programs of iptables-legacy lock."""

    # Who waits for the lock does so for 10 s a program.
    patience_s = 180.0

    def __init__(self, serving: Serving, disk: Disk, clock: WallClock, lock: Path, chance: Chance) -> None:
        super().__init__(serving, disk, clock, chance)
        self.xtables_lock = lock
        self.model = Networks()

    def is_as_the_model_says(self) -> None:
        """Assert that the records, of which no move is under way, are as the model says."""
        if self.refused is not None:
            self.model.finished(self.refused, self.serving.state_dir)
            self.refused = None
        self.model.is_recorded(self.serving.state_dir)

    def verb(self) -> Step:
        chance, model = self.random, self.model
        endpoint = chance.choice(ENDPOINTS)
        known = model.endpoints.get(endpoint)
        if len(model.networks) < 2 or chance.random() < 0.1:
            return model.create_network(chance.choice(NETWORKS), chance.choice(SUBNETS), chance.random() < 0.2)
        if known is None:
            return model.create_endpoint(chance.choice(sorted(model.networks)), endpoint, chance.choice(HOSTS))
        if not known.joined:
            return model.join(known.network, endpoint)
        match chance.randrange(6):
            case 0:
                return model.leave(known.network, endpoint)
            case 1:
                return model.delete_endpoint(known.network, endpoint)
            case 2:
                return model.revoke(known.network, endpoint)
            case 3:
                return model.delete_network(chance.choice(NETWORKS))
            case _:
                return model.publish(known.network, endpoint, chance.choice([*PROTOCOLS]), chance.choice(RUNS))

    def let_go(self) -> None:
        """Nobody else ever does."""

    def come_back_with(self, content: bytes) -> None:
        self.serving.kill()
        self.disk.revert(content)
        self.serving.start()
        self.refused = None
        self.model.lost_power(self.serving.state_dir)

    def torn_wal(self) -> None:
        """The end of what was written last never reached the disk, synced or not: what is read is older, and whole."""
        self.serving.kill()
        wal = self.serving.state_dir / "pynet.db-wal"
        size = wal.stat().st_size
        os.truncate(wal, self.random.randint(size // 2, size))
        self.serving.start()
        self.model.adopt(self.serving.state_dir)

    def lock(self) -> None:
        """Somebody else has the lock of iptables for a while."""
        with plugin.background("flock", str(self.xtables_lock), "sleep", str(self.chance.seconds(1, 30))):
            self.try_to(self.verb())
        self.put_right()

    def rivals(self) -> None:
        """Others change the firewall all the time."""
        with plugin.background("timeout", "1", "sh", "-c", RIVALS):
            for _ in range(5):
                time.sleep(0.1)
                self.verb().take(self.serving.ask)

    def flush(self) -> None:
        command("sh", "-c", FLUSH)
        self.put_right()

    def lost_notices(self) -> None:
        """It does not read what the kernel tells it, so that some is lost (ENOBUFS), and looks for itself then."""
        said = len(self.serving.log())
        with plugin.still(self.serving):
            for _ in range(3):
                command("nft", "-f", "-", input=FLOOD)
                command("nft", "delete", "table", "ip", "flood")
            command("sh", "-c", FLUSH)
        until(lambda: "more than could be read" in self.serving.log()[said:], "it has noticed what it did not hear")

    def bridge_gone(self) -> None:
        for network in sorted(self.model.networks)[:1]:
            command("ip", "link", "delete", f"pn-{network[:8]}")
        self.put_right()

    def link_gone(self) -> None:
        """An endpoint whose link is gone had joined a sandbox that is no more, or gets another one."""
        for endpoint, known in sorted(self.model.endpoints.items())[:1]:
            command("ip", "link", "delete", f"pnv{endpoint[:8]}")
            if known.joined:
                self.model.delete_endpoint(known.network, endpoint).then({})
        self.put_right()

    def link_busy(self) -> None:
        """Somebody took a link out of its bridge, and uses it so that the kernel does not let it back (EBUSY)."""
        said = len(self.serving.log())
        for endpoint in sorted(self.model.endpoints)[:1]:
            link = f"pnv{endpoint[:8]}"
            command("ip", "link", "set", link, "nomaster")
            command("ip", "link", "add", "busy", "link", link, "type", "macvlan")
            try:
                self.put_right()
                until(lambda: "EBUSY" in self.serving.log()[said:], "the kernel refuses")
            finally:
                command("ip", "link", "delete", "busy")
        self.put_right()

    def put_right(self) -> None:
        self.serving.process.send_signal(signal.SIGHUP)

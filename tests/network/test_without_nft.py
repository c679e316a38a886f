"""A host that has iptables and not the program nft."""

import shutil
from pathlib import Path

from tests.network.engine import Engine
from tests.network.samples import NETWORK_ID
from tests.network.sandboxes import command
from tests.serving import Serving, exchange
from tests.volume.conftest import mount_namespace

__all__ = ["mount_namespace"]


def test_networks_are_made_and_checks_find_nothing_amiss(netns: None, mount_namespace: None, tmp_path: Path) -> None:
    program = Path(shutil.which("nft") or "")
    upper, work = tmp_path / "upper", tmp_path / "work"
    upper.mkdir()
    work.mkdir()
    layers = f"lowerdir={program.parent},upperdir={upper},workdir={work}"
    command("mount", "-t", "overlay", "-o", layers, "none", str(program.parent))
    program.unlink()
    plugin = Serving("pynet", tmp_path)
    plugin.start()
    try:
        engine = Engine(lambda path, body: exchange(plugin.socket, "POST", path.lstrip("/"), body.encode()))
        assert engine.create_network()[0] == 200
        plugin.stop()
        plugin.start()
        assert "nft" not in plugin.log()
        engine.ok("DeleteNetwork", NetworkID=NETWORK_ID)
        assert "PYNET" not in command("iptables-save")
    finally:
        plugin.stop()

"""The administrator's `pyvol` beside an engine of the lab."""

from integration.lab import plugin
from integration.lab.host import Host


def pyvol(host: Host, *words: str) -> str:
    """What the command prints, which must succeed."""
    return host.run(plugin.script("pyvol"), *words, "--state-dir", str(host.root / "pyvol"))


def pyvol_error(host: Host, *words: str) -> str:
    """What the command says, which must fail."""
    told = host.machine.try_run(plugin.script("pyvol"), *words, "--state-dir", str(host.root / "pyvol"))
    assert told.returncode, f"pyvol {' '.join(words)} succeeded"
    return told.stderr

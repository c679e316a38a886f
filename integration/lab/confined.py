"""What the systemd units take away from the plugins, as far as it can be taken away without systemd."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {"pynet": "netplugin", "pyvol": "volplugin"}  # whose folder has the unit

# prctl(2) PR_SET_MDWE, which systemd uses where the kernel has it: no page is ever writable and executable.
DENY_WRITE_EXECUTE = """
import ctypes, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) != 0:
    print("this kernel has no PR_SET_MDWE: not tried", file=sys.stderr)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def prefix(name: str) -> list[str]:
    """The command that starts another one with the unit's capabilities and without a way to new ones."""
    unit = (ROOT / PACKAGES[name] / "systemd" / f"{name}.service").read_text()
    kept = re.findall(r"CAP_(\w+)", "".join(re.findall(r"^CapabilityBoundingSet=.*$", unit, re.MULTILINE)))
    assert kept, f"{name}.service keeps no capabilities"
    bounding = ",".join(["-all", *(f"+{capability.lower()}" for capability in kept)])
    setpriv = ["setpriv", f"--bounding-set={bounding}", "--inh-caps=-all", "--no-new-privs", "--"]
    return [*setpriv, sys.executable, "-IS", "-c", DENY_WRITE_EXECUTE]

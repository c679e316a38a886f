"""Asking a plugin beside its engine, and how often the engine has asked it, which the plugin counts itself."""

import contextlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from integration.lab import unixhttp
from integration.lab.host import Program
from integration.lab.plugin import SOCKETS

_COUNT = re.compile(r'^\w+_requests_total\{method="VolumeDriver\.(\w+)",outcome="\w+"\} (\d+)', re.MULTILINE)


def socket(plugin: Program) -> Path:
    """The plugin's socket, seen from here, in either form."""
    return Path(f"/proc/{plugin.pid}/root{SOCKETS}/{plugin.name}.sock")


def call(plugin: Program, method: str, **request: str) -> Any:
    """What the plugin answers to a method of VolumeDriver that somebody else than its engine calls."""
    return unixhttp.ask(socket(plugin), f"/VolumeDriver.{method}", request)


def counts(plugin: Program) -> Counter[str]:
    """How often each method of VolumeDriver was answered since the plugin has started."""
    found: Counter[str] = Counter()
    for method, count in _COUNT.findall(unixhttp.text(socket(plugin), "/metrics")):
        found[method] += int(count)
    return found


@contextlib.contextmanager
def counted(plugin: Program) -> Iterator[Counter[str]]:
    """After the block what is yielded says how often each method was called in it; those that were not are left out."""
    before, within = counts(plugin), Counter[str]()
    yield within
    within.update(counts(plugin) - before)

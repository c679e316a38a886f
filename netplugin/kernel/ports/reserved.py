"""Ports that the kernel gives to nobody who asks for any port. Source: ip-sysctl.rst, ip_local_reserved_ports."""

from __future__ import annotations

from pathlib import Path

from pluginkit.errors import KernelError

_SETTING = Path("/proc/sys/net/ipv4/ip_local_reserved_ports")


def add(first: int, count: int) -> None:
    """The run is reserved, and what was reserved before still is."""
    _write(_read() | set(range(first, first + count)))


def remove(ports: set[int]) -> None:
    """The ports are not reserved."""
    _write(_read() - ports)


def _read() -> set[int]:
    ports: set[int] = set()
    for part in _SETTING.read_text(encoding="ascii").strip().split(","):
        first, _, last = part.partition("-")
        if first:
            ports.update(range(int(first), int(last or first) + 1))
    return ports


def _write(ports: set[int]) -> None:
    runs: list[list[int]] = []
    for port in sorted(ports):
        if runs and port == runs[-1][1] + 1:
            runs[-1][1] = port
        else:
            runs.append([port, port])
    text = ",".join(f"{first}-{last}" for first, last in runs)
    try:
        # An empty write changes nothing; a lone newline empties the list.
        _SETTING.write_text(text + "\n", encoding="ascii")
    except OSError as exc:
        raise KernelError("reserve ports in", str(_SETTING), exc.errno or 0, "is /proc/sys writable here?") from exc

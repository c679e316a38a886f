"""The `-o` options of a network: one table, from which parsing, errors and docs/options-pynet.md come."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from pluginkit.errors import BadRequest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NetworkOptions:
    """The options of a network, each under the name of its row in OPTIONS."""

    mtu: int = 1500
    masquerade: bool = True
    icc: bool = True
    host_binding_ipv4: IPv4Address | None = None
    interface_prefix: str = "eth"


@dataclass(frozen=True)
class Option:
    """One row: the field it sets, its key on the command line, its parser, what it accepts and does in words."""

    field: str
    key: str
    parse: Callable[[str], Any]
    accepts: str
    help: str


def _parse_mtu(text: str) -> int:
    mtu = int(text)
    if not 68 <= mtu <= 65535:
        raise ValueError
    return mtu


def _parse_bool(text: str) -> bool:
    # Go's strconv.ParseBool, which is what the built-in driver uses.
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if text in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise ValueError


def _parse_prefix(text: str) -> str:
    # 15 characters is the kernel's limit; dockerd adds a number of up to three digits.
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,11}", text):
        raise ValueError
    return text


OPTIONS = (
    Option(
        "mtu",
        "com.docker.network.driver.mtu",
        _parse_mtu,
        "68 to 65535",
        "MTU of the bridge and of the containers' interfaces.",
    ),
    Option(
        "masquerade",
        "com.docker.network.bridge.enable_ip_masquerade",
        _parse_bool,
        "true or false",
        "Whether traffic that leaves the network carries the host's address.",
    ),
    Option(
        "icc",
        "com.docker.network.bridge.enable_icc",
        _parse_bool,
        "true or false",
        "Whether containers of the network reach each other's unpublished ports.",
    ),
    Option(
        "host_binding_ipv4",
        "com.docker.network.bridge.host_binding_ipv4",
        IPv4Address,
        "an IPv4 address",
        "Host address on which ports are published when -p names none. Unset: all addresses, IPv6 too.",
    ),
    Option(
        "interface_prefix",
        "com.docker.network.container_iface_prefix",
        _parse_prefix,
        "up to 12 letters, digits, '_', '.', '-'",
        "Name of the interface in the container, without its number.",
    ),
)

_BY_KEY = {option.key: option for option in OPTIONS}


def parse_options(given: Mapping[str, Any]) -> NetworkOptions:
    """Return the options of a network.

    Unknown keys under com.docker.network. are for other drivers or newer versions: logged, and accepted as Docker does.

    Raises: BadRequest: another unknown key, with the nearest known one, or a value that the key does not accept.
    """
    values: dict[str, Any] = {}
    for key, value in given.items():
        option = _BY_KEY.get(key)
        if option is None:
            _check_unknown(key)
            continue
        try:
            values[option.field] = option.parse(str(value))
        except ValueError as exc:
            raise BadRequest(f"cannot use -o {key}={value}: it takes {option.accepts}") from exc
    return NetworkOptions(**values)


def _check_unknown(key: str) -> None:
    if key.startswith("com.docker.network."):
        log.warning("option %s is not one of this driver's; it has no effect", key)
        return
    near = difflib.get_close_matches(key, _BY_KEY, n=1, cutoff=0.0)
    raise BadRequest(f"cannot use -o {key}: there is no such option; the nearest is {near[0]}")


def describe_options() -> str:
    """Return the table as Markdown, one row an option."""
    defaults = NetworkOptions()
    rows = ["| option | accepts | default | meaning |", "|---|---|---|---|"]
    for option in OPTIONS:
        default = getattr(defaults, option.field)
        shown = "" if default is None else str(default).lower()
        rows.append(f"| `{option.key}` | {option.accepts} | {shown} | {option.help} |")
    return "\n".join(rows) + "\n"

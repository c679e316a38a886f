"""All cases, area by area."""

from __future__ import annotations

from netplugin.conform.case import Case
from netplugin.conform.cases import arp, fragments, icmp, isolation, many, nat, nd, published, spoofing, tcp
from pluginkit.conform.catalogue import collected

CASES = collected((arp, nd, icmp, fragments, nat, published, tcp, isolation, spoofing, many), Case)

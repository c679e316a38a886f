"""`pynet mirror`: the cluster's networks on every host. What is slow to import is imported by the command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from netplugin.cluster.cli import Authority, Certificate, Cluster, Key
from pluginkit import log
from pluginkit.cli import told_in_one_line


def mirror(
    cluster: Cluster,
    ca: Authority = None,
    cert: Certificate = None,
    key: Key = None,
    engine: Annotated[Path, typer.Option(help="Socket of the engine whose networks these are.")] = Path(
        "/run/docker.sock"
    ),
    driver: Annotated[str, typer.Option(help="What the engine calls pynet; managed it is pynet:latest.")] = "pynet",
    once: Annotated[bool, typer.Option("--once", help="Compare once; end with 1 if something is in the way.")] = False,
) -> None:
    """Make the cluster's overlays on this host that were made on others, and tell others of those made here.

    Until SIGTERM. What was made by hand is never removed; what this made goes when it is removed where it was made, and
    no container here is to be in it.
    """
    log.configure("info", journald="JOURNAL_STREAM" in os.environ)
    from netplugin.cluster.access import ClusterSettings, parse_access
    from netplugin.cluster.etcd import Etcd
    from netplugin.mirror.mirror import Mirror

    with told_in_one_line("pynet"):
        one = Mirror(Etcd(parse_access(ClusterSettings(cluster, ca, cert, key))), engine, driver)
        if not once:
            one.run()
        if one.compare():
            raise typer.Exit(1)

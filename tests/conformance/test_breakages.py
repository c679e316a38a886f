"""Every case fails when what it checks is broken on purpose: it passes, something is broken, and it passes no more.

A few of the breakages, and all of them with MUTATIONS=all, as `make mutations` has it.
"""

import os
from pathlib import Path

import pytest

from netplugin.conform.case import VERSIONS, Case
from netplugin.conform.catalogue import CASES
from netplugin.conform.view import View
from pluginkit.conform.case import Failed
from tests.conformance.breakages import BREAKAGES
from tests.conformance.breaking import Breakage
from tests.conformance.namespaces import NamespaceStage

BY_ID = {case.id: case for case in CASES}
FEW = ("free-taken", "plugin-gone", "silent-gateway")
CHOSEN = [each for each in BREAKAGES if os.environ.get("MUTATIONS") == "all" or each.id in FEW]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("breakage", CHOSEN, ids=lambda breakage: breakage.id)
def test_what_is_broken_is_noticed(breakage: Breakage, tmp_path: Path) -> None:
    stage = NamespaceStage("bridge", "nftables", tmp_path)
    try:
        views = {version: View(stage, version) for version in VERSIONS}
        played = [(BY_ID[ident], views[version]) for ident in breakage.kills for version in BY_ID[ident].versions]
        for case, view in played:
            case.run(view)
        if not breakage.alive:
            stage.near.plugin.kill()
        for broken in breakage.broken:
            broken(stage)
        # What was translated before would be translated on.
        stage.near.run("conntrack", "-F")
        survived = [f"{case.id} v{view.version}" for case, view in played if not fails(case, view)]
    finally:
        stage.close()
    assert survived == []


def fails(case: Case, view: View) -> bool:
    try:
        case.run(view)
    except (Failed, OSError):
        return True
    return False


def test_every_case_is_killed_by_something() -> None:
    killed = {ident for breakage in BREAKAGES for ident in breakage.kills}
    assert killed - set(BY_ID) == set()
    assert set(BY_ID) - killed == set()
    assert set(FEW) <= {breakage.id for breakage in BREAKAGES}

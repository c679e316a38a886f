"""Every case of `pynet conform`, with real packets through a real pynet."""

from collections.abc import Iterator

import pytest

from netplugin.conform.case import KINDS, VERSIONS, Case, Kind, Version
from netplugin.conform.catalogue import CASES
from netplugin.conform.view import View
from netplugin.firewall.backends import Name
from tests.conformance.namespaces import NamespaceStage

BACKENDS: tuple[Name, ...] = ("iptables", "nftables")
PLAYED = [
    pytest.param(kind, firewall, version, case, id=f"{kind}-{firewall}-v{version}-{case.id}")
    for kind in KINDS
    for firewall in BACKENDS
    for case in CASES
    for version in VERSIONS
    if version in case.versions and kind in case.kinds
]


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Stages"]:
    stages = Stages(tmp_path_factory)
    yield stages
    stages.close()


class Stages:
    """One stage at a time: whoever wants another one ends it."""

    def __init__(self, paths: pytest.TempPathFactory) -> None:
        self._paths = paths
        self._stage: NamespaceStage | None = None
        self._of: tuple[Kind, Name] | None = None
        self._views: dict[Version, View] = {}

    def view(self, kind: Kind, firewall: Name, version: Version) -> View:
        if self._of != (kind, firewall):
            self.close()
            stage = self._stage = NamespaceStage(kind, firewall, self._paths.mktemp("stage"))
            self._of, self._views = (kind, firewall), {each: View(stage, each) for each in VERSIONS}
        return self._views[version]

    def close(self) -> None:
        if self._stage is not None:
            self._stage.close()
        self._stage = self._of = None


@pytest.mark.parametrize(("kind", "firewall", "version", "case"), PLAYED)
def test_packets(stages: Stages, kind: Kind, firewall: Name, version: Version, case: Case) -> None:
    case.run(stages.view(kind, firewall, version))

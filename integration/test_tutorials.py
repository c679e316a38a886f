"""The tutorials of docs/, word for word: each command is typed, and prints what the page says."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from integration.lab import image, plugin, tutorial
from integration.lab.etcd import etcd_cluster
from integration.lab.fleet import started
from integration.lab.host import Host
from integration.lab.lab import Lab
from integration.lab.namespace import SYSTEM_PATH

PAGES = {page.stem: page for page in tutorial.pages()}
SEVERAL_HOSTS = {"4-two-hosts": ("one", "two")}


@pytest.fixture
def readers(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Mapping[str, Host]]:
    """The hosts on which the page's commands are typed, each as its reader has it by then."""
    names = SEVERAL_HOSTS.get(request.param, ())
    if not names:
        yield {"": request.getfixturevalue("apart")}  # one on which much is broken
        return
    with etcd_cluster(lab) as etcd:
        hosts = started(lab, len(names), replace(lab.drivers, cluster=etcd.url))
        for host in hosts:
            settings = f'cluster = "{etcd.url}"\n'
            host.machine.run("sh", "-c", "mkdir -p /etc/pynet && cat >/etc/pynet/pynet.toml", stdin=settings)
        yield dict(zip(names, hosts, strict=True))
        for host in hosts:
            lab.discard(host)


def typed(host: Host, command: str) -> str:
    """What the shell of an administrator prints, errors too."""
    env = {
        "PATH": f"{Path(host.cli).parent}:{Path(plugin.script('pynet')).parent}:{SYSTEM_PATH}",
        "PYNET_STATE_DIR": str(host.root / "pynet"),
        "PYVOL_STATE_DIR": str(host.root / "pyvol"),
    }
    folder = host.root / "reader"
    folder.mkdir(exist_ok=True)
    return host.machine.try_run("bash", "-c", f"cd {folder}\n{{ {command}\n}} 2>&1", env=env).stdout


@pytest.mark.parametrize(("readers", "page"), [(name, name) for name in PAGES], indirect=["readers"])
def test_a_page_word_for_word(readers: Mapping[str, Host], page: str) -> None:
    for host in readers.values():
        host.docker("tag", image.NAME, "busybox")
    try:
        for step in tutorial.steps(PAGES[page].read_text(encoding="utf-8")):
            printed = typed(readers[step.host], step.command)
            assert tutorial.is_what_the_page_says(step, printed), f"{step.host}$ {step.command}\n{printed}"
    finally:
        for host in readers.values():
            host.docker("rmi", "busybox")

"""The Compose file of docs/examples, as it is there: up, scaled, changed and down."""

from pathlib import Path

from integration.lab import image
from integration.lab.deadline import wait_for
from integration.lab.host import Host
from integration.lab.wirehost import WireHost

FILE = Path(__file__).parents[1] / "docs" / "examples" / "compose.yaml"


def compose(host: Host, *words: str) -> None:
    settings = (f"IMAGE={image.NAME}", f"PYNET={host.drivers.network}", f"PYVOL={host.drivers.volume}")
    argv = ("docker-compose", "--no-ansi", "-p", "demo", "-f", str(FILE), *words)
    host.run("env", *settings, "DOCKER_HOST=unix:///run/docker.sock", *argv, timeout_s=120)


def answering(host: Host, outside: WireHost) -> list[int]:
    """The published ports that answer from outside."""
    return [port for port in range(8080, 8085) if "open" in outside.run("sh", "-c", probe(host.address, port))]


def probe(address: str, port: int) -> str:
    return f"curl -s -m 3 -o /dev/null http://{address}:{port}/ && echo open || true"


def test_up_scaled_and_down(host: Host, outside: WireHost) -> None:
    compose(host, "up", "-d", "--scale", "web=3")
    wait_for("three answer", lambda: len(answering(host, outside)) == 3, 30)
    told = outside.run("curl", "-s", f"http://{host.address}:{answering(host, outside)[0]}/").split()
    assert sorted(told) == sorted(name[:12] for name in host.docker("ps", "-q").split())
    # The name of the service is the addresses of all three.
    said = host.once("nslookup web", "--network", "demo_inside")
    assert len({line.split()[-1] for line in said.splitlines() if ": 10.61.0." in line}) == 3
    compose(host, "up", "-d", "--scale", "web=1")
    wait_for("one answers", lambda: len(answering(host, outside)) == 1, 30)
    assert len(host.sh(host.docker("ps", "-q"), "cat /data/index.html").split()) == 3
    compose(host, "down")
    assert host.docker("volume", "ls", "-q").split() == ["demo_notes"]
    compose(host, "up", "-d")
    assert len(host.sh(host.docker("ps", "-q"), "cat /data/index.html").split()) == 4, "the volume was kept"
    compose(host, "down", "--volumes")
    assert host.docker("volume", "ls", "-q") == ""
    assert "demo_inside" not in host.docker("network", "ls")

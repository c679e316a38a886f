"""The stock docker CLI says the same of dockerd 28.5 and of pyrun, but for what is listed in same/differences.txt."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from integration.lab.host import Host
from tests.runtime.engines import CLI, side_by_side
from tests.runtime.same.normal import apart, normal, parse_differences

COMMANDS = Path(__file__).parent / "same" / "commands.txt"


def commands() -> list[str]:
    """The lines of the script, without its comments."""
    lines = COMMANDS.read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def outputs(host: Host) -> list[list[str]]:
    """What the host says to each command: stdout, then stderr with a mark, then the exit code if it is not 0."""
    path = {"PATH": f"{CLI.parent}:{host.machine.environment['PATH']}"}
    told = []
    for line in commands():
        done = host.machine.try_run("sh", "-c", line, env=path)
        said = normal(done.stdout, str(host.root)).splitlines()
        said += [f"! {each}" for each in normal(done.stderr, str(host.root)).splitlines()]
        told.append([*said, *([f"exit {done.returncode}"] if done.returncode else [])])
    return told


@pytest.fixture(scope="module")
def both() -> Iterator[list[tuple[str, list[str], list[str]]]]:
    """Each command, what dockerd says, and what pyrun says."""
    with side_by_side() as hosts, ThreadPoolExecutor(2) as pool:
        yield [*zip(commands(), *pool.map(outputs, hosts), strict=True)]


@pytest.mark.timeout(900)
def test_nothing_differs_but_what_is_listed(both: list[tuple[str, list[str], list[str]]]) -> None:
    found = [difference for command in both if (difference := apart(*command))]
    listed = parse_differences((COMMANDS.parent / "differences.txt").read_text())
    assert [each for each in found if each not in listed] == [], "not listed: mend it, or list it with its reason"
    assert [each for each in listed if each not in found] == [], "listed, but they do not differ so: take it out"


def test_the_script_is_as_long_as_is_said() -> None:
    assert len(commands()) >= 120

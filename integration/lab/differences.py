"""What cannot be alike on every engine and in both forms, as data: tests that do not apply somewhere, and why.

Nothing else in this folder asks for a version or a form. A row that fits no test any more is an error.
"""

from dataclasses import dataclass
from fnmatch import fnmatch


@dataclass(frozen=True, slots=True)
class Difference:
    """On these engines, in this form, the tests (FILE::NAME, with wildcards) do not apply."""

    tests: tuple[str, ...]
    reason: str
    source: str
    form: str = "*"
    engine: str = "*"


DIFFERENCES = (
    Difference(
        tests=("test_up_down.py::*",),
        form="managed",
        reason="`make up` starts legacy plugins",
        source="scripts/up",
    ),
    Difference(
        tests=("test_names.py::*",),
        form="managed",
        reason="the managed pynet does not see the engine's socket, so it cannot ask what containers are called: it"
        " refuses -o dns=true",
        source="plugin-configs/pynet/config.json",
    ),
    Difference(
        tests=("test_encrypted_overlay.py::*",),
        form="managed",
        reason="the managed pynet has neither wg nor /dev/net/tun: it refuses -o encrypted=true",
        source="plugin-configs/pynet/config.json",
    ),
    Difference(
        tests=("test_podman.py::*",),
        form="managed",
        reason="managed plugins are Docker's; Podman is told a socket",
        source="containers.conf(5): engine.volume_plugins",
    ),
    Difference(
        tests=("test_volume_bind.py::*",),
        form="managed",
        reason="the managed pyvol sees no directory of the host but its own: it offers no -o backend=bind",
        source="plugin-configs/pyvol/config.json",
    ),
    Difference(
        tests=("test_volume_encryption.py::test_files_go_out_and_come_in_again",),
        form="managed",
        reason="`pyvol export` and `import` read the key themselves, by the path that the plugin has for it: on the"
        " host it is the same only if the state is in /var/lib/pyvol",
        source="plugin-configs/pyvol/config.json",
    ),
    Difference(
        tests=("test_tutorials.py::*",),
        form="managed",
        reason="the tutorials begin with `make up`, which starts legacy plugins",
        source="docs/tutorials",
    ),
    Difference(
        tests=("test_forgotten.py::*",),
        form="managed",
        reason="the managed pynet does not ask the engine which networks it has forgotten",
        source="plugin-configs/pynet/config.json: no socket of the engine's is mounted",
    ),
    Difference(
        tests=("test_port_conflict.py::test_a_foreign_process_holds_the_port",),
        form="managed",
        reason="the managed pynet does not see the host's processes, so it cannot name the one that has a port",
        source="plugin-configs/pynet/config.json: PidHost is not asked for",
    ),
    Difference(
        tests=("test_plugin_crash.py::test_a_start_repairs_what_somebody_broke",),
        form="managed",
        reason="a killed plugin is started again at once: there is no time in which something can be broken for it",
        source="moby plugin/manager.go: HandleExitEvent",
    ),
    Difference(
        tests=("test_chaos.py::*",),
        form="managed",
        reason="an engine that waits for the socket of a plugin it has just started again does not notice that it dies"
        " meanwhile: it disables the plugin after ten seconds",
        source="moby plugin/manager_linux.go: pluginPostStart; `docker plugin enable` brings it back",
    ),
    Difference(
        tests=("test_joining.py::*",),
        form="managed",
        reason="the settings of a managed plugin, among them where etcd is, can be changed only while it is disabled,"
        " which the engine refuses while a network uses it",
        source="moby plugin/backend_linux.go: Set, Disable",
    ),
    Difference(
        tests=("test_cluster_faults.py::test_the_wall_clock_jumps",),
        form="managed",
        reason="the program of a managed plugin is started by the engine, and takes its clock from nobody else",
        source="plugin-configs/pynet/config.json",
    ),
    Difference(
        tests=("test_volumes.py::test_inspect_and_ls_know_it",),
        form="managed",
        engine="docker-*",
        reason="inspect shows the mountpoint as the plugin sees it: the engine translates it in Mount, Path and List,"
        " but not in Get",
        source="moby volume/drivers/adapter.go: volumeDriverAdapter.Get",
    ),
    Difference(
        tests=("test_swarm.py::*",),
        form="legacy",
        reason="swarm mode refuses drivers that are legacy plugins",
        source="moby libnetwork/cnmallocator/provider.go",
    ),
    Difference(
        tests=(
            "test_managed.py::*",
            "test_managed_rights.py::*",
            "test_managed_gaps.py::*",
            "test_plugin_lifecycle.py::*",
            "test_plugin_upgrade.py::*",
        ),
        form="legacy",
        reason="a legacy plugin is no plugin of the engine's: `docker plugin` does not know it",
        source="https://docs.docker.com/engine/extend/legacy_plugins/",
    ),
    Difference(
        tests=("test_swarm_volume.py::*",),
        form="legacy",
        reason="a swarm gives no task to a node whose engine does not list the driver, and a legacy one is listed only"
        " once it was used: the task waits for a `docker volume create -d pyvol` on the node",
        source="moby integration-cli/docker_cli_swarm_unix_test.go: SwarmVolumePlugin",
    ),
    Difference(
        tests=("test_moving.py::*",),
        form="managed",
        reason="they are about both forms: the row of the legacy form has them",
        source="docs/moving.md",
    ),
    Difference(
        tests=("test_moving.py::*",),
        engine="pyrun",
        reason="the commands of the page go by the names of dockerd's sockets and folders; pyrun's are others",
        source="docs/moving.md",
    ),
    Difference(
        tests=("test_swarm.py::*", "test_swarm_volume.py::*"),
        engine="pyrun",
        reason="there is no swarm mode",
        source="docs/pyrun.md",
    ),
    Difference(
        tests=("test_plugin_upgrade.py::*",),
        engine="pyrun",
        reason="no registry is spoken to",
        source="docs/pyrun.md",
    ),
    Difference(
        tests=("test_managed_gaps.py::*",),
        engine="pyrun",
        reason="there are no drivers of the engine's own to compare with",
        source="docs/pyrun.md",
    ),
    Difference(
        tests=(
            "test_next_to_docker.py::test_the_administrators_rules_come_first",
            "test_next_to_docker.py::test_the_administrators_rules_hold_for_the_way_out_too",
            "test_next_to_docker.py::test_a_restart_of_the_engine_leaves_the_order",
        ),
        engine="pyrun",
        reason="there is no chain DOCKER-USER",
        source="docs/pyrun.md",
    ),
    Difference(
        tests=(
            "test_volume_admin.py::test_prune_removes_what_nobody_has_and_nothing_else",
            "test_volume_suite.py::test_a_name_belongs_to_one_driver",
            "test_volume_calls.py::test_removed_behind_the_engines_back_it_leaves_its_name_to_others",
        ),
        engine="pyrun",
        reason="there is no driver `local`: a volume that names it, as the CLI does by itself, is pyvol's",
        source="docs/pyrun.md",
    ),
    Difference(
        tests=("test_volume_calls.py::test_a_copy_mounts_once_more_with_the_same_caller",),
        engine="pyrun",
        reason="what a running container sees is copied where it sees it: nothing is mounted again",
        source="runtime/containers/files.py",
    ),
    Difference(
        tests=(
            "test_volume_ways_in.py::test_a_part_of_a_volume",
            "test_volume_ways_in.py::test_a_part_that_is_not_there_or_leads_out_of_the_volume",
        ),
        engine="docker-20.10",
        reason="`volume-subpath` is new in 26.0",
        source="https://docs.docker.com/engine/release-notes/26.0/",
    ),
    Difference(
        tests=(
            "test_volume_ways_in.py::test_a_part_of_a_volume",
            "test_volume_ways_in.py::test_a_part_that_is_not_there_or_leads_out_of_the_volume",
        ),
        engine="pyrun",
        reason="there is no `volume-subpath`: it is refused",
        source="runtime/containers/mounts.py",
    ),
    Difference(
        tests=("test_volume_calls.py::test_a_driver_that_is_down_is_in_nobodys_way_and_found_when_it_comes",),
        form="managed",
        reason="a managed plugin does not come late: an engine knows those that it has, and starts them itself",
        source="moby plugin/manager.go",
    ),
    Difference(
        tests=("test_doctor.py::test_a_network_that_the_engine_has_forgotten",),
        engine="pyrun",
        reason="it takes the engine's networks away by the name of dockerd's file",
        source="runtime/state.py",
    ),
    Difference(
        tests=("test_harness.py::test_the_engine_is_the_one_that_was_asked_for",),
        engine="pyrun",
        reason="its version is its own, not that of a Docker Engine",
        source="docs/pyrun.md",
    ),
    Difference(
        tests=("test_port_conflict.py::test_the_engine_and_others_cannot_take_a_published_port",),
        engine="pyrun",
        reason="its default network is made by its first container and stays: something is new after the refusal",
        source="docs/pyrun.md",
    ),
    Difference(
        tests=("test_ipam.py::test_networks_never_overlap",),
        engine="pyrun",
        reason="the subnet of docker0 must be left out, and there is no docker0",
        source="docs/pyrun.md",
    ),
)


def difference(test: str, engine: str, form: str) -> Difference | None:
    """The row that says why a test, FILE::NAME[PARAMETERS], does not apply there, if one does."""
    for row in DIFFERENCES:
        if fnmatch(engine, row.engine) and fnmatch(form, row.form) and any(matches(test, name) for name in row.tests):
            return row
    return None


def matches(test: str, pattern: str) -> bool:
    """True when the pattern is the test's whole name, or its name without parameters; brackets mean themselves."""
    literal = pattern.replace("[", "[[]")
    return fnmatch(test, literal) or fnmatch(test.partition("[")[0], literal)


def table() -> str:
    """All rows as a table in Markdown."""
    lines = ["| engine | form | tests | why | source |", "|---|---|---|---|---|"]
    for row in DIFFERENCES:
        where = ["every" if name == "*" else name for name in (row.engine, row.form)]
        lines.append(
            f"| {' | '.join(where)} | {', '.join(f'`{it}`' for it in row.tests)} | {row.reason} | {row.source} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())

"""Who has a volume mounted: through `docker cp`, killed engines, live-restore and restarts of the plugin.

Source: the recorded conversations; moby volume/mounts. A container keeps its caller ID for as long as it exists.
"""

from __future__ import annotations

import pytest

from pluginkit.errors import Conflict
from tests.volume.machine import Machine


@pytest.fixture
def used(machine: Machine) -> Machine:
    """A volume `v` that is mounted in the running container c1."""
    machine.create("v")
    machine.mount("v", "c1")
    machine.containers["c1"] = "v"
    return machine


def stop(machine: Machine, container: str) -> None:
    del machine.containers[container]
    machine.unmount("v", container)


def test_two_containers(used: Machine) -> None:
    used.mount("v", "c2")
    used.containers["c2"] = "v"
    stop(used, "c1")
    assert used.is_mounted("v")
    stop(used, "c2")
    assert not used.is_mounted("v")


def test_a_second_container_changes_counts_only(used: Machine) -> None:
    used.kernel.changes = used.asked = 0
    used.mount("v", "c2")
    used.unmount("v", "c2")
    assert used.kernel.changes == 0
    assert used.asked == 0


def test_docker_cp_mounts_the_same_id_and_unmounts_once(used: Machine) -> None:
    used.mount("v", "c1")
    used.unmount("v", "c1")
    assert used.is_mounted("v")
    stop(used, "c1")
    assert not used.is_mounted("v")


def test_copy_up_then_start(machine: Machine) -> None:
    machine.create("v")
    machine.mount("v", "copy")
    machine.unmount("v", "copy")
    assert not machine.is_mounted("v")
    machine.mount("v", "c1")
    assert machine.is_mounted("v")


def test_an_unknown_id_unmounts_nothing(used: Machine) -> None:
    used.unmount("v", "never seen")
    assert used.is_mounted("v")
    assert used.status("v")["mounts"] == {"c1": 1}


def test_a_killed_engine_mounts_the_same_id_again_and_does_not_leak(used: Machine) -> None:
    used.kill_engine()
    used.containers.clear()
    used.mount("v", "c1")
    used.containers["c1"] = "v"
    assert used.status("v")["mounts"] == {"c1": 1}
    stop(used, "c1")
    assert not used.is_mounted("v")


def test_an_engine_killed_many_times(used: Machine) -> None:
    for _ in range(5):
        used.kill_engine()
        used.mount("v", "c1")
    assert used.status("v")["mounts"] == {"c1": 6}, "the container was there all the time: nothing can be told"
    stop(used, "c1")
    assert not used.is_mounted("v"), "now it can"


def test_live_restore_unmounts_what_the_engine_before_mounted(used: Machine) -> None:
    used.kill_engine()
    stop(used, "c1")
    assert not used.is_mounted("v")


def test_docker_cp_under_live_restore(used: Machine) -> None:
    used.kill_engine()
    used.mount("v", "c1")
    used.unmount("v", "c1")
    assert used.is_mounted("v")
    stop(used, "c1")
    assert not used.is_mounted("v")


def test_a_new_container_under_live_restore(used: Machine) -> None:
    used.kill_engine()
    used.mount("v", "c2")
    used.containers["c2"] = "v"
    assert used.status("v")["mounts"] == {"c1": 1, "c2": 1}
    stop(used, "c1")
    assert used.is_mounted("v")
    stop(used, "c2")
    assert not used.is_mounted("v")


def test_a_count_of_a_dead_engine_goes_with_the_last_container(used: Machine) -> None:
    used.mount("v", "c2")
    used.containers["c2"] = "v"
    used.kill_engine()
    del used.containers["c1"]  # It ended while there was no engine to unmount for it.
    used.mount("v", "c3")
    used.containers["c3"] = "v"
    stop(used, "c2")
    assert used.is_mounted("v")
    stop(used, "c3")
    assert not used.is_mounted("v")
    used.is_settled()


def test_mounts_of_a_dead_engine_are_taken_down_by_a_reconcile(used: Machine) -> None:
    used.kill_engine()
    used.driver.reconcile()
    assert used.is_mounted("v"), "a container lives on"
    used.containers.clear()
    used.driver.reconcile()
    assert not used.is_mounted("v")
    used.is_settled()


def test_counts_of_another_living_engine_are_kept(used: Machine) -> None:
    dockers = used.engine
    used.engine = "podman-9"
    used.running.add(used.engine)
    used.containers.clear()  # Docker has mounted it and is about to start the container.
    used.mount("v", "pod")
    used.unmount("v", "pod")
    assert used.is_mounted("v")
    used.engine = dockers
    used.unmount("v", "c1")
    assert not used.is_mounted("v")


def test_an_engine_that_cannot_be_told_is_counted_and_nothing_else(machine: Machine) -> None:
    machine.engine = ""
    machine.create("v")
    for _ in range(2):
        machine.mount("v", "c1")
    machine.driver.reconcile()
    machine.unmount("v", "c1")
    assert machine.is_mounted("v")
    machine.unmount("v", "c1")
    assert not machine.is_mounted("v")


def test_remove_is_refused_while_a_container_has_it(used: Machine) -> None:
    with pytest.raises(Conflict, match="caller c1; container c1"):
        used.remove("v")
    assert used.is_mounted("v")
    assert used.names() == ["v"]


def test_remove_is_refused_while_the_engine_has_it(used: Machine) -> None:
    used.containers.clear()
    with pytest.raises(Conflict, match=r"cannot remove v: it is mounted; caller c1$"):
        used.remove("v")


def test_remove_is_refused_while_a_container_has_what_was_unmounted(used: Machine) -> None:
    used.unmount("v", "c1")
    with pytest.raises(Conflict, match="container c1"):
        used.remove("v")
    assert used.names() == ["v"]


def test_a_count_of_a_dead_engine_does_not_keep_a_volume(used: Machine) -> None:
    used.kill_engine()
    used.containers.clear()
    used.remove("v")
    assert used.kernel.objects == {}
    assert used.names() == []


def test_a_dead_engines_container_keeps_a_volume(used: Machine) -> None:
    used.kill_engine()
    with pytest.raises(Conflict, match="container c1"):
        used.remove("v")


def test_others_may_use_a_bound_directory_after_its_volume(machine: Machine) -> None:
    machine.create("b", backend="bind", source="/srv")
    machine.containers["other"] = "b"
    machine.remove("b")
    assert machine.names() == []


def test_the_plugin_may_be_killed_at_any_time(used: Machine) -> None:
    used.mount("v", "c1")
    used.restart()
    assert used.status("v")["mounts"] == {"c1": 2}
    used.unmount("v", "c1")
    used.restart()
    assert used.is_mounted("v")
    stop(used, "c1")
    assert not used.is_mounted("v")
    used.is_settled()


def test_plugin_and_engine_killed_together(used: Machine) -> None:
    used.kill_engine()
    used.containers.clear()
    used.restart()
    assert not used.is_mounted("v")
    used.mount("v", "c1")
    used.containers["c1"] = "v"
    assert used.status("v")["mounts"] == {"c1": 1}
    stop(used, "c1")
    used.remove("v")
    assert used.kernel.objects == {}

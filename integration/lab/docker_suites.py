"""Docker's own tests of plugins and of drivers that are plugins, as data, and which of our tests asks the same of ours.

Names are those of moby's functions without "Test". Where nothing of ours answers, the row says why.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """Cases of one of Docker's suites. ours: tests, FILE::NAME; or none, and `why`."""

    cases: tuple[str, ...]
    ours: tuple[str, ...] = ()
    why: str = ""


ENGINES_OWN = "asks something of the engine alone, whatever the driver is"

SUITES = {
    "integration-cli/docker_cli_daemon_plugins_test.go": (
        Case(
            ("DaemonRestartWithPluginEnabled", "DaemonRestartWithPluginDisabled", "DaemonShutdownWithPlugins",
             "DaemonKillWithPlugins"),
            ("test_plugin_lifecycle.py::test_enabled_and_disabled_stay_so",),
        ),
        Case(
            ("DaemonKillLiveRestoreWithPlugins", "DaemonShutdownLiveRestoreWithPlugins", "PluginVolumeRemoveOnRestart"),
            ("test_managed.py::test_the_engine_ends_and_leaves_containers_alive",
             "test_managed_gaps.py::test_nothing_stops_that_would_not_stop_without_us"),
        ),
        Case(("VolumePlugin",), ("test_volumes.py::test_data_is_there_in_the_next_container",)),
        Case(
            ("PluginListFilterEnabled", "PluginListFilterCapability"),
            ("test_plugin_lifecycle.py::test_names_and_filters",),
        ),
    ),
    "integration-cli/docker_cli_plugins_test.go": (
        Case(
            ("PluginBasicOps", "PluginForceRemove", "PluginEnableDisableNegative", "PluginCreate", "PluginInspect",
             "PluginIDPrefix", "PluginListDefaultFormat"),
            ("test_plugin_lifecycle.py::test_names_and_filters", "test_managed.py::test_disabled_by_force_and_enabled"),
        ),
        Case(("PluginActive", "PluginActiveNetwork"), ("test_plugin_lifecycle.py::test_what_is_in_use_stays",)),
        Case(
            ("PluginInstallDisable", "PluginInstallDisableVolumeLs"),
            ("test_managed.py::test_disabled_by_force_and_enabled",),
        ),
        Case(
            ("PluginSet",),
            ("test_managed.py::test_a_setting_is_changed",
             "test_managed.py::test_a_wrong_setting_is_told_in_the_engines_log"),
        ),
        Case(
            ("PluginUpgrade", "PluginInstallImage"),
            ("test_plugin_upgrade.py::test_with_the_state_where_it_is_by_default",
             "test_managed.py::test_another_version_takes_over"),
        ),
        Case(("PluginInstallArgs",), ("test_plugin_upgrade.py::test_with_the_state_elsewhere",)),
        Case(("PluginMetricsCollector",), why="is about another kind of plugin"),
    ),
    "integration/plugin": (
        Case(
            ("logging: ContinueAfterPluginCrash",),
            ("test_plugin_crash.py::test_traffic_goes_on_without_pynet",
             "test_plugin_crash.py::test_writes_go_on_without_pyvol"),
        ),
        Case(("volumes: PluginWithDevMounts",), ("test_managed_rights.py::test_without_it_something_breaks",)),
        Case(("common: PluginInstall",), ("test_plugin_upgrade.py::test_with_the_state_where_it_is_by_default",)),
        Case(
            ("common: PluginBackCompatMediaTypes", "common: PluginInvalidJSON", "common: PluginsWithRuntimes"),
            why=ENGINES_OWN,
        ),
    ),
    "integration-cli/docker_cli_swarm_unix_test.go": (
        Case(("SwarmVolumePlugin",), ("test_swarm_volume.py::test_a_service_keeps_its_volume",)),
        Case(("SwarmNetworkPluginV2",), ("test_swarm.py::test_four_tasks_over_two_nodes",)),
    ),
    "volume/service": (
        Case(
            ("DefererencePluginOnCreateError",),
            ("test_plugin_lifecycle.py::test_a_driver_that_cannot_make_it_is_not_in_use",),
        ),
    ),
    "integration-cli/docker_cli_external_volume_driver_test.go": (
        Case(
            ("ExternalVolumeDriverNamed", "ExternalVolumeDriverUnnamed", "ExternalVolumeDriverDeleteContainer"),
            ("test_volume_calls.py::test_what_the_life_of_a_container_costs",
             "test_volumes.py::test_a_volume_is_made_by_run_and_an_anonymous_one_goes_with_it",
             "test_volumes.py::test_removal_frees_the_disk_space"),
        ),
        Case(
            ("ExternalVolumeDriverVolumesFrom",),
            ("test_volume_calls.py::test_what_two_containers_cost_that_share_a_volume",
             "test_volumes.py::test_volumes_from"),
        ),
        Case(
            ("ExternalVolumeDriverRetryNotImmediatelyExists", "ExternalVolumeDriverLookupNotBlocked"),
            ("test_volume_calls.py::test_a_driver_that_is_down_is_in_nobodys_way_and_found_when_it_comes",
             "test_engine_crash.py::test_plugins_that_start_after_the_engine_are_found"),
        ),
        Case(("ExternalVolumeDriverBindExternalVolume",), ("test_volumes.py::test_two_containers_share_one_volume",)),
        Case(
            ("ExternalVolumeDriverList", "ExternalVolumeDriverGet"),
            ("test_volumes.py::test_inspect_and_ls_know_it",),
        ),
        Case(
            ("ExternalVolumeDriverWithDaemonRestart",),
            ("test_engine_crash.py::test_an_orderly_restart_of_the_engine",),
        ),
        Case(
            ("ExternalVolumeDriverUnmountOnMountFail",),
            ("test_volume_calls.py::test_a_mount_that_fails_is_not_unmounted",),
        ),
        Case(
            ("ExternalVolumeDriverUnmountOnCp", "ExternalVolumeDriverMountID"),
            ("test_volume_calls.py::test_a_copy_mounts_once_more_with_the_same_caller",
             "test_volumes.py::test_copying_into_a_running_container_keeps_the_volume_mounted"),
        ),
        Case(
            ("ExternalVolumeDriverPathCalls", "ExternalVolumeDriverCapabilities"),
            ("test_volume_calls.py::test_what_a_look_costs",),
        ),
        Case(
            ("ExternalVolumeDriverOutOfBandDelete",),
            ("test_volume_calls.py::test_removed_behind_the_engines_back_it_can_be_made_anew",
             "test_volume_calls.py::test_removed_behind_the_engines_back_it_leaves_its_name_to_others"),
        ),
        Case(("VolumeCLICreateOptionConflict",), ("test_volume_suite.py::test_a_name_belongs_to_one_driver",)),
        Case(("ExternalVolumeDriverGetEmptyResponse",), why=ENGINES_OWN),
    ),
    "integration-cli/docker_cli_network_unix_test.go": (
        Case(
            ("IPAMMultipleNetworks",),
            ("test_ipam.py::test_networks_never_overlap", "test_addresses.py::test_several_subnets"),
        ),
        Case(("CustomIPAM",), ("test_ipam.py::test_the_engines_own_driver_takes_them_too",)),
        Case(("IPAMOptions",), ("test_ipam.py::test_options_that_there_are_not_are_refused",)),
        Case(("NullIPAMDriver",), ("test_remote_driver.py::test_without_addresses",)),
        Case(("DriverOptions",), ("test_remote_driver.py::test_options_are_shown",)),
        Case(
            ("PluginV2NetworkDriver",),
            ("test_connectivity.py::test_two_containers_ping_each_other_by_address_and_by_name",),
        ),
        Case(("OverlayPortMapping",), ("test_connectivity.py::test_no_gateway_bridge_of_the_engine_appears",)),
        Case(
            ("DriverUngracefulRestart",),
            ("test_remote_driver.py::test_the_engine_starts_without_the_plugin",
             "test_engine_crash.py::test_what_a_container_had_that_died_with_the_engine_is_free"),
        ),
        Case(("MacInspect",), ("test_remote_driver.py::test_the_mac_address_is_the_drivers",)),
        Case(
            ("ConnectDisconnect", "UserDefinedNetworkConnectivity"),
            ("test_lifecycle.py::test_connect_and_disconnect_a_running_container",),
        ),
        Case(
            ("ConnectWithPortMapping", "ConnectDisconnectWithPortMapping"),
            ("test_lifecycle.py::test_published_ports_follow_the_container_to_its_other_network",),
        ),
        Case(
            ("ConnectPreferredIP", "UnsupportedRequiredIP", "ConnectLinkLocalIP", "ConnectFailsNoInspectChange"),
            ("test_remote_driver.py::test_a_wanted_address_is_kept_by_a_restart_of_the_container",
             "test_remote_driver.py::test_a_connection_that_fails_is_no_obstacle",
             "test_addresses.py::test_a_link_local_address"),
        ),
        Case(
            ("MultipleNetworksGracefulDaemonRestart", "MultipleNetworksUngracefulDaemonRestart",
             "RestartWithMultipleNetworks"),
            ("test_engine_crash.py::test_an_orderly_restart_of_the_engine",
             "test_engine_crash.py::test_all_are_killed_at_once", "test_engine_crash.py::test_power_cut"),
        ),
        Case(("InternalMode",), ("test_connectivity.py::test_an_internal_network_has_no_way_out",)),
        Case(
            ("CreateDeleteSpecialCharacters",),
            ("test_remote_driver.py::test_names_with_special_characters",),
        ),
        Case(
            ("IPAMInvalidCombinations", "ConnectWithMac", "FlagAlias", "ConnectWithAliasOnDefaultNetworks",
             "AnonymousEndpoint", "EmbeddedDNSInvalidInput", "LsDefault", "LsFilter", "CreatePredefined",
             "RmPredefined", "CreateLabel", "DeleteNotExists", "DeleteMultiple", "RunNetByID",
             "InspectCreatedContainer"),
            why=ENGINES_OWN,
        ),
        Case(
            ("DisconnectFromBridge", "DisconnectFromHost", "ConnectToHostFromOtherNetwork", "DisconnectDefault",
             "DaemonRestartRestoreBridgeNetwork", "HostModeUngracefulDaemonRestart", "LinkOnDefaultNetworkOnly"),
            why="is about networks that the engine makes itself",
        ),
    ),
}  # fmt: skip


def table() -> str:
    """All cases as a table in Markdown."""
    lines = ["| Docker's suite | its cases | ours |", "|---|---|---|"]
    for suite, rows in SUITES.items():
        for row in rows:
            ours = ", ".join(f"`{test}`" for test in row.ours) or f"none: {row.why}"
            lines.append(f"| {suite} | {', '.join(row.cases)} | {ours} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())

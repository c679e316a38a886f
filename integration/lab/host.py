"""A host of the lab: a machine on the wire with an engine and both plugins."""

import contextlib
import itertools
from dataclasses import dataclass
from pathlib import Path

from integration.lab import engine, image, machine, managed, plugin, snapshot
from integration.lab.daemon import Daemon
from integration.lab.deadline import wait_for
from integration.lab.wire import Wire
from integration.lab.wirehost import WireHost

Program = Daemon | managed.ManagedPlugin


@dataclass(frozen=True, slots=True)
class Drivers:
    """The drivers under test. With the engine's own (bridge, local) the harness itself is tried."""

    network: str = "pynet"
    volume: str = "pyvol"
    firewall: str = "auto"  # with which pynet is told to work
    cluster: str = ""  # where pynet finds etcd
    scope: str = "local"  # or global: for the networks of a swarm
    confined: bool = False  # whether the plugins have no more rights than their systemd units leave them
    iptables: str = "nft"  # which of the two iptables everybody on the host uses
    form: str = "legacy"  # or managed: whether they are processes of their own or the engine's

    @property
    def plugins(self) -> tuple[str, ...]:
        """Those that are programs of ours."""
        names = (name.partition(":")[0] for name in (self.network, self.volume))
        return tuple(name for name in names if name in ("pynet", "pyvol"))

    @property
    def sized(self) -> tuple[str, ...]:
        """The option for a volume of 64 MiB, where the driver has sizes."""
        return ("-o", "size=64M") if "pyvol" in self.plugins else ()


def drivers(network: str, volume: str, firewall: str, *, form: str, confined: bool, iptables: str) -> Drivers:
    """The drivers by the names under which the engine knows them: a managed plugin's carries its tag."""
    tag = {name: f"{name}:{managed.TAG}" if form == "managed" else name for name in ("pynet", "pyvol")}
    names = tag.get(network, network), tag.get(volume, volume)
    return Drivers(*names, firewall, form=form, confined=confined, iptables=iptables)


class Host(WireHost):
    """A machine with an engine, both plugins and the lab's image; private /run, /etc, /var and state folders."""

    def __init__(self, name: str, root: Path, wire: Wire, kind: engine.Engine, drivers: Drivers) -> None:
        self.allowed = root / "allowed"  # the only root below which binds are allowed
        self.drivers, self.kind = drivers, kind
        self.cgroup = f"/{root.parent.parent.name}-{root.parent.name}-{name}"
        self.cli = kind.find("docker")
        self.before: snapshot.Snapshot | None = None
        self._rebooted = False
        self._boots = itertools.count(1)
        super().__init__(name, root, wire)

    def boot(self) -> None:
        """The machine is on the wire with its folders as they were last; no program runs on it yet."""
        super().boot()
        root, run = self.machine.root, self.machine.run
        run("mount", "-t", "tmpfs", "-o", "mode=755", "run", "/run")
        for folder in ("etc", "var"):
            upper, work = root / folder, root / f"{folder}.work"
            upper.mkdir(exist_ok=True)
            work.mkdir(exist_ok=True)
            layers = f"lowerdir=/{folder},upperdir={upper},workdir={work}"
            run("mount", "-t", "overlay", "-o", layers, "over", f"/{folder}")
        for program in ("iptables", "iptables-save", "iptables-restore"):
            for family, name in (("ip", program), ("ip6", program.replace("ip", "ip6", 1))):
                chosen = f"/usr/sbin/{family}tables-{self.drivers.iptables}{program.removeprefix('iptables')}"
                run("ln", "-sf", chosen, f"/etc/alternatives/{name}")
        self.allowed.mkdir(exist_ok=True)
        # Nobody on the wire answers: an outside name fails at once instead of waiting for the machine's resolver.
        run("sh", "-c", "echo nameserver 10.90.0.1 >/etc/resolv.conf; mkdir -p /run/docker/plugins")
        # The kernel's own boot id stays the same for all namespaces; a rebooted host must have another one.
        boot_id = root / "boot_id"
        boot_id.write_text(f"{next(self._boots):08d}-0000-4000-8000-{abs(hash(self.cgroup)) % 10**12:012d}\n")
        run("mount", "--bind", str(boot_id), "/proc/sys/kernel/random/boot_id")
        self.engine = engine.daemon(self.kind, self.machine, self.cgroup)
        self.plugins = {name: self._plugin(name) for name in self.drivers.plugins}

    def _plugin(self, name: str) -> Program:
        settings = {"PYNET_FIREWALL": self.drivers.firewall, "PYNET_SCOPE": self.drivers.scope}
        if self.drivers.cluster:
            settings["PYNET_CLUSTER"] = self.drivers.cluster
        if self.drivers.form == "managed":
            settable = settings if name == "pynet" else {}
            return managed.ManagedPlugin(self.machine, name, self.docker, self.engine, settable)
        env = {**settings, "PYVOL_BIND_ROOTS": str(self.allowed), "PATH": self.kind.path()}
        return plugin.daemon(name, self.machine, env, self.drivers.confined)

    @property
    def daemons(self) -> list[Program]:
        """The programs of the host in the order in which they start.

        An engine asks legacy plugins when it starts, and managed plugins are started by it.
        """
        plugins = list(self.plugins.values())
        return [self.engine, *plugins] if self.drivers.form == "managed" else [*plugins, self.engine]

    @property
    def volume_state(self) -> str:
        """The state directory of the volume plugin, as that sees it itself."""
        return "/var/lib/pyvol" if self.drivers.form == "managed" else str(self.root / "pyvol")

    def docker(self, *argv: str, timeout_s: float = 60.0) -> str:
        """The stock CLI has succeeded; its stdout is returned without the last newline."""
        return self.machine.run(self.cli, *argv, timeout_s=timeout_s).rstrip("\n")

    def docker_error(self, *argv: str, timeout_s: float = 60.0) -> str:
        """The stock CLI has failed, as it should; its stderr is returned."""
        done = self.machine.try_run(self.cli, *argv, timeout_s=timeout_s)
        assert done.returncode != 0, f"docker {argv} should have failed, but said {done.stdout!r}"
        return done.stderr.strip()

    def idle(self, name: str, *options: str) -> None:
        """A container runs that does nothing."""
        self.docker("run", "-d", "--name", name, *options, image.NAME, "sleep", "1000000")

    def web(self, name: str, *options: str) -> None:
        """A container runs that serves "lab" at / and the client's address at /cgi-bin/peer, on port 80."""
        self.docker("run", "-d", "--name", name, *options, image.NAME, "httpd", "-f", "-h", "/www", "-p", "80")

    def sh(self, container: str, script: str) -> str:
        """The shell script has succeeded in the running container; its stdout is returned."""
        return self.docker("exec", container, "sh", "-c", script)

    def once(self, script: str, *options: str) -> str:
        """The shell script has succeeded in a container that is gone again; its stdout is returned."""
        return self.docker("run", "--rm", *options, image.NAME, "sh", "-c", script)

    def facts(self, container: str, template: str) -> str:
        """What `docker inspect` says about a container, by a Go template without its braces."""
        return self.docker("inspect", "--format", "{{" + template + "}}", container)

    def address_of(self, container: str, network: str) -> str:
        """The IPv4 address that the engine says the container has on the network."""
        return self.facts(container, f'(index .NetworkSettings.Networks "{network}").IPAddress')

    def network_of(self, container: str) -> tuple[str, ...]:
        """The command that starts another one in the container's network namespace, with this host's programs."""
        return "nsenter", f"--target={self.facts(container, '.State.Pid')}", "--net", "--"

    def start(self) -> None:
        """Engine and plugins answer, the image is there, and the host's state before the first command is noted."""
        self.ensure_running()
        self.import_image()
        self._run_first()
        self.remove_all()  # pyrun's default network is a plugin's, and may be removed
        self.before = None
        wait_for("a host at rest", self._rests)

    def _rests(self) -> bool:
        """Whether it is as it was a moment ago: what ran the first container may take a while to end."""
        earlier, self.before = self.before, snapshot.take(self.machine)
        return self.before == earlier

    def _run_first(self) -> None:
        """What the engine does only for the first container since its machine was booted is done."""
        self.docker("run", "--rm", image.NAME, "true")
        self._rebooted = False

    def import_image(self) -> None:
        """The engine has the lab's image."""
        packed = self.machine.root / "image.tar"
        packed.write_bytes(image.tar())
        self.docker("import", str(packed), image.NAME)

    def ensure_running(self) -> None:
        """Whatever a test has stopped runs again."""
        for daemon in self.daemons:
            if not daemon.runs():
                # A busy machine can miss the time in which a killed engine wants its containerd back.
                daemon.start(timeout_s=60, attempts=3 if daemon is self.engine else 1)

    def crash(self) -> None:
        """Engine and plugins are dead by SIGKILL, all in the same moment; containers live on."""
        for daemon in (self.engine, *self.plugins.values()):  # the engine first: it would start its plugins again
            daemon.kill()

    def reboot(self) -> None:
        """Everything in memory is gone, as after a power cut; the disk is what it was; no program runs yet."""
        self.machine.close()
        for daemon in self.daemons:
            daemon.kill()
        machine.detach_loops(self.machine.root)
        self._remove_cgroups()
        self.boot()
        self._rebooted = True

    def _remove_cgroups(self) -> None:
        machine.remove_cgroups(self.cgroup)
        for program in self.plugins.values():
            if isinstance(program, managed.ManagedPlugin) and program.ident:
                machine.remove_cgroups(f"/{program.ident}")  # the engine makes it wherever it is itself

    def clean(self) -> None:
        """Engine and plugins run, all containers, networks and volumes are removed."""
        self.ensure_running()
        if self._rebooted:
            self._run_first()
        self.remove_all()

    def remove_all(self) -> None:
        """All containers, networks and volumes that the engine knows are removed."""
        self._each(("ps", "-aq"), ("rm", "-fv"))
        self._each(("network", "ls", "-q", "--filter", "type=custom"), ("network", "rm"))
        self._each(("volume", "ls", "-q"), ("volume", "rm"))

    def _each(self, listing: tuple[str, ...], removing: tuple[str, ...]) -> None:
        if found := self.docker(*listing).split():
            self.docker(*removing, *found)

    def changes_since(self, before: snapshot.Snapshot | None) -> list[str]:
        """How the host differs from what it was then, once it has had ten seconds to settle."""
        assert before is not None, "the host was never started"
        changes: list[str] = []

        def settled() -> bool:
            changes[:] = before.difference(snapshot.take(self.machine))
            return not changes

        with contextlib.suppress(TimeoutError):
            wait_for("host as before", settled, 10)
        return changes

    def logs(self) -> str:
        """The end of every daemon's log."""
        return "\n".join(f"--- {daemon.name} on {self.name}\n{daemon.log_tail()}" for daemon in self.daemons)

    def close(self) -> None:
        """Every process of the host is dead; its loop devices, cgroups and folder are gone."""
        super().close()
        for daemon in self.daemons:
            daemon.kill()
        machine.detach_loops(self.machine.root)
        self._remove_cgroups()
        machine.remove_folder(self.machine.root)

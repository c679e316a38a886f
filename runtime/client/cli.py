"""The commands of pyrun that the docker CLI has too, for machines without it. Options that both have mean the same."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Annotated, Any
from urllib.parse import quote

import typer

from runtime.client import words
from runtime.client.engine import DEFAULT, Engine, EngineError
from runtime.client.terminal import Conversation, passed_on, show, sized

All = Annotated[bool, typer.Option("-a", "--all", help="Also those that do not run.")]
Filters = Annotated[list[str], typer.Option("-f", "--filter", metavar="KEY=VALUE", help="Only what fits; repeatable.")]
Format = Annotated[str, typer.Option("--format", help="What to print of each, as {{.Name}} or {{json .Name}}.")]
Force = Annotated[bool, typer.Option("-f", "--force", help="Also what is in use or not there.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print IDs alone.")]
Names = Annotated[list[str], typer.Argument(metavar="NAME…", help="Names or IDs.")]
Name = Annotated[str, typer.Argument(help="Name or ID of the container.")]
Driver = Annotated[str, typer.Option("-d", "--driver", help="The plugin that is to make it.")]
Options = Annotated[list[str], typer.Option("-o", "--opt", metavar="KEY=VALUE", help="For the driver; repeatable.")]
Interactive = Annotated[bool, typer.Option("-i", "--interactive", help="What is typed is the process's.")]
Terminal = Annotated[bool, typer.Option("-t", "--tty", help="The process has a terminal.")]
Env = Annotated[list[str], typer.Option("-e", "--env", metavar="NAME[=VALUE]", help="A variable; repeatable.")]

networks = typer.Typer(help="Networks, as `docker network`.", no_args_is_help=True)
volumes = typer.Typer(help="Volumes, as `docker volume`.", no_args_is_help=True)
PASSING = {"allow_interspersed_args": False}


def add_commands(app: typer.Typer) -> None:
    """The program has the commands."""
    for command in (ps, logs, start, stop, rm, inspect, images, rmi, load, version):
        app.command()(command)
    app.command("run", context_settings=PASSING)(run)
    app.command("exec", context_settings=PASSING)(exec_)
    app.command("import")(import_)
    app.add_typer(networks, name="network")
    app.add_typer(volumes, name="volume")


def engine() -> Engine:
    """Return the engine that DOCKER_HOST names, or pyrun."""
    return Engine(os.environ.get("DOCKER_HOST") or DEFAULT)


def run(
    image: Annotated[str, typer.Argument(help="Name or ID of the image.")],
    command: Annotated[list[str] | None, typer.Argument(help="What is to run in it; else what the image says.")] = None,
    detach: Annotated[bool, typer.Option("-d", "--detach", help="Print its ID, and let it run.")] = False,
    interactive: Interactive = False,
    tty: Terminal = False,
    rm: Annotated[bool, typer.Option("--rm", help="Remove it once it has ended.")] = False,
    name: Annotated[str, typer.Option(help="What it is called.")] = "",
    publish: Annotated[
        list[str], typer.Option("-p", "--publish", metavar="[[ADDRESS:]PORT:]PORT", help="A port; repeatable.")
    ] = [],  # noqa: B006
    volume: Annotated[
        list[str], typer.Option("-v", "--volume", metavar="[SOURCE:]TARGET[:ro]", help="A mount; repeatable.")
    ] = [],  # noqa: B006
    network: Annotated[str, typer.Option("--network", "--net", help="The network that it is in.")] = "",
    env: Env = [],  # noqa: B006
) -> None:
    """Run a container. Its exit status is this command's: 125 if it could not be made, 126 or 127 if not started."""
    api = engine()
    _check_terminal(interactive and tty and not detach)
    try:
        body = words.container(image, command or [], env=env, volumes=volume, ports=publish, network=network,
                               terminal=tty, stdin=interactive, attached=not detach, remove=rm)  # fmt: skip
        made = api.ask("POST", "/containers/create", body, name=name or None)
    except (EngineError, words.Misunderstood) as exc:
        raise _failed(exc, 125) from exc
    key = made["Id"]
    try:
        if detach:
            api.ask("POST", f"/containers/{key}/start")
            print(key)
            return
        streams = api.converse(f"/containers/{key}/attach", stream=True, stdin=interactive, stdout=True, stderr=True)
        end = api.open("POST", f"/containers/{key}/wait", condition="removed" if rm else "next-exit")
        api.ask("POST", f"/containers/{key}/start")
    except EngineError as exc:
        raise _failed(exc, words.start_status(str(exc))) from exc
    talk = Conversation(streams, interactive, tty)
    with passed_on(api, key), sized(api, f"/containers/{key}") if tty else nullcontext():
        talk.run()
        status = 0 if talk.detached else json.loads(end.read())["StatusCode"]
    raise typer.Exit(status)


def exec_(
    container: Name,
    command: Annotated[list[str], typer.Argument(help="What is to run in it.")],
    detach: Annotated[bool, typer.Option("-d", "--detach", help="Let it run.")] = False,
    interactive: Interactive = False,
    tty: Terminal = False,
    env: Env = [],  # noqa: B006
) -> None:
    """Run a program in a container that runs. Its exit status is this command's."""
    api = engine()
    _check_terminal(interactive and tty and not detach)
    body = {
        "Cmd": command, "Env": env or None, "Tty": tty, "AttachStdin": interactive and not detach,
        "AttachStdout": not detach, "AttachStderr": not detach,
    }  # fmt: skip
    key = api.ask("POST", f"/containers/{quote(container)}/exec", body)["Id"]
    if detach:
        api.ask("POST", f"/exec/{key}/start", {"Detach": True})
        return
    streams = api.converse(f"/exec/{key}/start", {"Detach": False, "Tty": tty})
    with sized(api, f"/exec/{key}") if tty else nullcontext():
        Conversation(streams, interactive, tty).run()
    raise typer.Exit(api.ask("GET", f"/exec/{key}/json")["ExitCode"] or 0)


def ps(every: All = False, quiet: Quiet = False, filters: Filters = [], template: Format = "") -> None:  # noqa: B006
    """List containers."""
    rows = [
        {
            "ID": each["Id"][:12], "Image": each["Image"], "Command": each["Command"], "Status": each["Status"],
            "Ports": words.ports(each["Ports"]), "Names": ",".join(name.lstrip("/") for name in each["Names"]),
        }
        for each in engine().ask("GET", "/containers/json", all=every, filters=words.filters(filters))
    ]  # fmt: skip
    _print(rows, ("ID", "Image", "Command", "Status", "Ports", "Names"), quiet, template)


def logs(
    container: Name,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until it ends.")] = False,
    tail: Annotated[str, typer.Option("-n", "--tail", help="Only so many lines of the end.")] = "all",
    timestamps: Annotated[bool, typer.Option("-t", "--timestamps", help="Say when.")] = False,
) -> None:
    """Print what a container has said."""
    api, path = engine(), f"/containers/{quote(container)}"
    terminal = bool(api.ask("GET", f"{path}/json")["Config"]["Tty"])
    try:
        show(api.open("GET", f"{path}/logs", stdout=True, stderr=True, follow=follow, tail=tail,
                      timestamps=timestamps), terminal)  # fmt: skip
    except KeyboardInterrupt as exc:
        raise typer.Exit(130) from exc


def start(containers: Names) -> None:
    """Start containers."""
    _each(containers, lambda api, name: api.ask("POST", f"/containers/{quote(name)}/start"))


def stop(
    containers: Names,
    time: Annotated[int | None, typer.Option("-t", "--time", help="Seconds until it is killed.")] = None,
) -> None:
    """Stop containers."""
    _each(containers, lambda api, name: api.ask("POST", f"/containers/{quote(name)}/stop", t=time))


def rm(
    containers: Names,
    force: Force = False,
    volumes: Annotated[bool, typer.Option("-v", "--volumes", help="Also its volumes without a name.")] = False,
) -> None:
    """Remove containers."""
    _each(containers, lambda api, name: api.ask("DELETE", f"/containers/{quote(name)}", force=force, v=volumes))


def inspect(containers: Names, template: Format = "") -> None:
    """Print all that is known of containers."""
    _inspect("/containers/{}/json", containers, template)


def images(
    name: Annotated[str, typer.Argument(help="Only those of this name.")] = "", quiet: Quiet = False,
    template: Format = "",
) -> None:  # fmt: skip
    """List images."""
    found = engine().ask("GET", "/images/json", filters=words.filters([f"reference={name}"] if name else []))
    rows = [
        {
            "ID": each["Id"].removeprefix("sha256:")[:12], "Repository": tag.rpartition(":")[0],
            "Tag": tag.rpartition(":")[2], "Size": f"{each['Size'] / 1e6:.1f}MB",
        }
        for each in found for tag in each["RepoTags"] or ["<none>:<none>"]
    ]  # fmt: skip
    _print(rows, ("Repository", "Tag", "ID", "Size"), quiet, template)


def rmi(names: Names, force: Force = False) -> None:
    """Remove images."""
    _each(names, lambda api, name: api.ask("DELETE", f"/images/{quote(name)}", force=force))


def load(
    source: Annotated[typer.FileBinaryRead, typer.Option("-i", "--input", help="An archive of `docker save`.")] = "-",  # type: ignore[assignment]
) -> None:
    """Load images from an archive."""
    for told in engine().lines("POST", "/images/load", source):
        print(told.get("stream", ""), end="")


def import_(
    source: Annotated[typer.FileBinaryRead, typer.Argument(help="A tar archive of files, - for what is piped in.")],
    name: Annotated[str, typer.Argument(help="What the image is called.")] = "",
) -> None:
    """Make an image of a tar archive of files."""
    repository, _, tag = name.partition(":")
    for told in engine().lines("POST", "/images/create", source, fromSrc="-", repo=repository or None, tag=tag or None):
        print(told.get("status", ""))


def version(template: Format = "") -> None:
    """Print the version of the engine."""
    found = {"Server": engine().ask("GET", "/version")}
    print(words.fill_in(template or "{{.Server.Version}}", found))


@networks.command("create")
def create_network(
    name: Annotated[str, typer.Argument(help="What it is called.")],
    driver: Driver = "",
    subnet: Annotated[list[str], typer.Option(help="Its addresses, as 10.1.0.0/24; repeatable.")] = [],  # noqa: B006
    gateway: Annotated[list[str], typer.Option(help="Its gateway, one a subnet.")] = [],  # noqa: B006
    internal: Annotated[bool, typer.Option("--internal", help="No way out of it.")] = False,
    ipv6: Annotated[bool, typer.Option("--ipv6", help="Addresses of IPv6 too.")] = False,
    options: Options = [],  # noqa: B006
) -> None:
    """Make a network."""
    gateways = [*gateway, *[""] * len(subnet)]
    config = [
        {"Subnet": each, **({"Gateway": way} if way else {})} for each, way in zip(subnet, gateways, strict=False)
    ]
    body = {"Name": name, "Driver": driver, "Internal": internal, "EnableIPv6": ipv6, "Options": words.pairs(options),
            "IPAM": {"Driver": "default", "Config": config}}  # fmt: skip
    print(engine().ask("POST", "/networks/create", body)["Id"])


@networks.command("ls")
def list_networks(quiet: Quiet = False, filters: Filters = [], template: Format = "") -> None:  # noqa: B006
    """List networks."""
    found = engine().ask("GET", "/networks", filters=words.filters(filters))
    rows = [{"ID": each["Id"][:12], **{key: each[key] for key in ("Name", "Driver", "Scope")}} for each in found]
    _print(rows, ("ID", "Name", "Driver", "Scope"), quiet, template)


@networks.command("rm")
def remove_networks(names: Names) -> None:
    """Remove networks."""
    _each(names, lambda api, name: api.ask("DELETE", f"/networks/{quote(name)}"))


@networks.command("inspect")
def inspect_networks(names: Names, template: Format = "") -> None:
    """Print all that is known of networks."""
    _inspect("/networks/{}", names, template)


@volumes.command("create")
def create_volume(
    name: Annotated[str, typer.Argument(help="What it is called.")] = "", driver: Driver = "", options: Options = [],  # noqa: B006
) -> None:  # fmt: skip
    """Make a volume."""
    body = {"Name": name, "Driver": driver, "DriverOpts": words.pairs(options)}
    print(engine().ask("POST", "/volumes/create", body)["Name"])


@volumes.command("ls")
def list_volumes(quiet: Quiet = False, filters: Filters = [], template: Format = "") -> None:  # noqa: B006
    """List volumes."""
    found = engine().ask("GET", "/volumes", filters=words.filters(filters))
    for warning in found["Warnings"] or []:
        print(f"warning: {warning}", file=sys.stderr)
    rows = [{key: each[key] for key in ("Name", "Driver")} for each in found["Volumes"] or []]
    _print(rows, ("Name", "Driver"), quiet, template)


@volumes.command("rm")
def remove_volumes(names: Names, force: Force = False) -> None:
    """Remove volumes and what is in them."""
    _each(names, lambda api, name: api.ask("DELETE", f"/volumes/{quote(name)}", force=force))


@volumes.command("inspect")
def inspect_volumes(names: Names, template: Format = "") -> None:
    """Print all that is known of volumes."""
    _inspect("/volumes/{}", names, template)


def _print(rows: Sequence[words.Row], columns: Sequence[str], quiet: bool, template: str) -> None:
    lines = words.table(rows, columns)
    if quiet:
        lines = [row["ID"] if "ID" in row else row["Name"] for row in rows]
    if template:
        lines = [words.fill_in(template, row) for row in rows]
    for line in lines:
        print(line)


def _inspect(path: str, names: Sequence[str], template: str) -> None:
    api = engine()
    found = [api.ask("GET", path.format(quote(name))) for name in names]
    print("\n".join(words.fill_in(template, each) for each in found) if template else json.dumps(found, indent=4))


def _each(names: Sequence[str], act: Any) -> None:
    """`act(engine, name)` was tried for each; those for which it worked are printed."""
    api, failed = engine(), False
    for name in names:
        try:
            act(api, name)
            print(name)
        except EngineError as exc:
            failed = True
            print(f"pyrun: {exc}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


def _check_terminal(wanted: bool) -> None:
    if wanted and not sys.stdin.isatty():
        print("pyrun: the input device is not a TTY; leave -t away", file=sys.stderr)
        raise typer.Exit(1)


def _failed(exc: Exception, status: int) -> typer.Exit:
    print(f"pyrun: {exc}", file=sys.stderr)
    return typer.Exit(status)

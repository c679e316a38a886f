"""The commands of pools."""

from __future__ import annotations

from typing import Annotated

import typer

from pluginkit.cli import Json, as_json, columns
from volplugin.admin.cli import DEFAULT_STATE_DIR, StateDir, ask
from volplugin.pools.wire import PoolCreateRequest, PoolGrowRequest, PoolInfo, PoolRemoveRequest, PoolsAnswer
from volplugin.values import rough_size

Name = Annotated[str, typer.Argument(metavar="POOL", help="Name of a pool.")]
Size = Annotated[str, typer.Argument(help="Size, as with -o size: 200G.")]


def add_pool_commands(app: typer.Typer) -> None:
    """The command line has the commands of pools."""
    pools = typer.Typer(
        help="Files that hold volumes, in which snapshots and clones take no time.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    pools.command("create")(create)
    pools.command("ls")(list_pools)
    pools.command("grow")(grow)
    pools.command("rm")(remove)
    app.add_typer(pools, name="pool")


def create(
    name: Name,
    size: Size,
    fs: Annotated[str, typer.Option(help="Its filesystem: xfs or btrfs.")] = "xfs",
    allocate: Annotated[bool, typer.Option("--allocate", help="Take all of it of the disk at once.")] = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Make a pool. Volumes get into it with -o pool=POOL."""
    ask(state_dir, "Pools.Create", PoolCreateRequest(name, size, fs, allocate), dict)
    typer.echo(name)


def list_pools(json: Json = False, state_dir: StateDir = DEFAULT_STATE_DIR) -> None:
    """List pools: how large they are, how full, and what their volumes may still take."""
    pools = ask(state_dir, "Pools.List", {}, PoolsAnswer).Pools
    rows = [("POOL", "FS", "SIZE", "USED", "AVAILABLE", "MAY GROW BY", "ON DISK", "VOLUMES", "HEALTH")]
    typer.echo(as_json(pools) if json else columns([*rows, *map(_row, pools)]))


def grow(name: Name, size: Size, state_dir: StateDir = DEFAULT_STATE_DIR) -> None:
    """Make a pool larger. Containers go on meanwhile."""
    ask(state_dir, "Pools.Grow", PoolGrowRequest(name, size), dict)
    typer.echo(name)


def remove(
    names: Annotated[list[str], typer.Argument(metavar="POOL...", help="Names of pools in which there is nothing.")],
    lost: Annotated[
        bool, typer.Option("--lost", help="Also what was in them: their files are gone, and do not come back.")
    ] = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Delete pools in which there is no volume, also none in the trash."""
    for name in names:
        ask(state_dir, "Pools.Remove", PoolRemoveRequest(name, lost), dict)
        typer.echo(name)


def _row(pool: PoolInfo) -> tuple[str, ...]:
    keys = ("size_bytes", "used_bytes", "available_bytes", "growth_bytes", "allocated_bytes")
    sizes = (rough_size(pool.Status[key]) if key in pool.Status else "-" for key in keys)
    health = pool.Status.get("problem", pool.Status["health"])
    return (pool.Name, pool.Status["fs"], *sizes, str(len(pool.Volumes)), health)

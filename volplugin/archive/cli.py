"""The commands of archives. What is long is done here, in a process of its own; the plugin is asked for moments."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from pluginkit import admin
from pluginkit.cli import told_in_one_line
from pluginkit.errors import BadRequest, Conflict
from volplugin.admin.cli import DEFAULT_STATE_DIR, StateDir
from volplugin.admin.wire import InspectAnswer, InspectRequest, SnapshotRequest
from volplugin.archive import places
from volplugin.archive.progress import shown
from volplugin.archive.wire import AdoptRequest, CheckAnswer, CheckRequest
from volplugin.kernel.copies import private, staging
from volplugin.kernel.encryption import fscrypt
from volplugin.kernel.encryption.keys import Keys
from volplugin.options import COPIED, OPTIONS, Bind, Loop, parse_options
from volplugin.plan import TREE, Layout, key_source
from volplugin.records import Volume, parse_name, parse_origin, parse_snapshot_name
from volplugin.resources import Filesystem
from volplugin.values import format_size, parse_pool, rough_size

if TYPE_CHECKING:
    from volplugin.archive.contents import Header
    from volplugin.archive.frames import FrameReader
    from volplugin.archive.reading import Restored

KeyFile = Annotated[
    Path | None, typer.Option("--key-file", help="File of at least 32 random bytes, with which it is encrypted.")
]


def add_archive_commands(app: typer.Typer) -> None:
    """The command line has the commands of archives."""
    app.command("backup")(backup)
    app.command("restore")(restore)
    app.command("export")(export)
    app.command("import")(import_volume)


def backup(
    volume: Annotated[str, typer.Argument(metavar="VOLUME[@SNAPSHOT]", help="As it is now, or was then.")],
    to: Annotated[str, typer.Option("--to", metavar="FILE|-|URL", help="A new file, standard output, s3://…")] = "-",
    since: Annotated[
        str,
        typer.Option("--since", metavar="ARCHIVE", help="Only what has changed since that one."),
    ] = "",
    key_file: KeyFile = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Write all that is in a volume to an archive. Containers may go on writing; they wait for a moment.

    A file that was not finished is, by the same command: with what has changed meanwhile.
    """
    from volplugin.archive.frames import FrameWriter
    from volplugin.archive.writing import Known, write_archive

    writing = False
    try:
        with told_in_one_line("pyvol"):
            secret = places.read_key(key_file)
            known = _known(since, secret)
            with places.target(to) as out, _image(state_dir, volume) as (name, options, image):
                same, before = _same(state_dir, options, image, known.header), dict(known.digests)
                begun = _begun(out, to, secret, known, name)
                # What comes between in an archive that goes on is not as it was in the one before.
                same = frozenset(number for number in same if before.get(number) == known.digests.get(number))
                header = _header(volume, options, image, secret, known, begun)
                writing = places.is_file(to)
                with shown(f"backup of {volume}") as bar:
                    writer = FrameWriter(out, secret, begun.number, begun.position)
                    written = write_archive(image, header, writer, Known(known.digests, same), bar)
    except (KeyboardInterrupt, SystemExit):
        if writing:
            typer.echo(f"pyvol: the same command goes on with {places.partial(to)}; or delete it", err=True)
        raise
    told = f"{format_size(header.size)}, {rough_size(written.read_bytes)} of it read, content {written.content}"
    typer.echo(f"{volume}: {told}", err=to == places.STANDARD)


def restore(
    archives: Annotated[list[str], typer.Argument(metavar="ARCHIVE...", help="A file, - or a URL.")],
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="Name of the new volume.")] = "",
    opts: Annotated[
        list[str] | None, typer.Option("--opt", "-o", metavar="KEY=VALUE", help="Other options than it had.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only read and check all of it.")] = False,
    key_file: KeyFile = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Make a volume that equals the one of which the archive was made. It is not there before all of it was checked."""
    from volplugin.archive.reading import Nowhere, Restored

    with told_in_one_line("pyvol"):
        secret, given = places.read_key(key_file), _parse_opts(opts or [])
        if check:
            restored = Restored(Nowhere())
            _read(archives, secret, restored, lambda _header: None)
            typer.echo(f"{restored.volume}: content {restored.content}")
            return

        def wanted(header: Header) -> tuple[str, dict[str, str]]:
            # Whoever wrote the archive does not choose files to read or programs to run here, nor where it lies.
            own = {key: value for key, value in header.options.items() if not key.startswith("key_") and key != "pool"}
            return name or header.volume, own | given

        path = _layout(state_dir).staged_path(secrets.token_hex(16), _pool(given))
        with staging.unnamed(path.parent) as image:
            restored = Restored(image)
            _read(archives, secret, restored, lambda header: _check(state_dir, *wanted(header)))
            assert restored.header is not None
            made, options = wanted(restored.header)
            _publish(state_dir, image, path, made, options)
    typer.echo(f"{made}: content {restored.content}")


def export(
    volume: Annotated[str, typer.Argument(metavar="VOLUME[@SNAPSHOT]", help="As it is now, or was then.")],
    to: Annotated[str, typer.Option("--to", metavar="FILE|-|URL", help="A new file, standard output, s3://…")] = "-",
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Write the files of a volume to a plain tar archive. Containers may go on writing; they wait for a moment."""
    from volplugin.archive import tar

    begun = False
    try:
        with told_in_one_line("pyvol"):
            with places.target(to) as out:
                begun = places.is_file(to)
                if begun:
                    out.truncate(0)
                with _files(state_dir, volume) as tree, shown(f"export of {volume}") as bar:
                    content = tar.pack(tree, out, bar)
    except (KeyboardInterrupt, SystemExit):
        if begun:
            places.partial(to).unlink(missing_ok=True)
        raise
    typer.echo(f"{volume}: sha256 {content}", err=to == places.STANDARD)


def import_volume(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new volume.")],
    source: Annotated[str, typer.Option("--from", metavar="FILE|-|URL", help="A tar archive, uncompressed.")] = "-",
    opts: Annotated[
        list[str] | None, typer.Option("--opt", "-o", metavar="KEY=VALUE", help="As with docker volume create.")
    ] = None,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Make a volume with the files of a tar archive. It is not there before all of them are in it."""
    from volplugin.archive import tar

    with told_in_one_line("pyvol"):
        options = _check(state_dir, name, dict(text.partition("=")[::2] for text in opts or []))
        loop = parse_options(options, 0)
        assert isinstance(loop, Loop)
        layout = _layout(state_dir)
        path = layout.staged_path(secrets.token_hex(16), loop.pool)
        planned = layout.plan_volume(Volume(name, loop), None)
        [filesystem] = [resource for resource in planned if isinstance(resource, Filesystem)]
        with places.source(source) as file, staging.unnamed(path.parent) as image:
            image.resize(loop.size)
            private.format_image(image, replace(filesystem, path=path.with_name(f"{path.name}.new")))
            with private.mounted(image, path.parent, loop.fs, writable=True) as root, shown("import") as bar:
                _unlock(root / TREE, loop)
                content = tar.unpack(file, root / TREE, bar)
            _publish(state_dir, image, path, name, options)
    typer.echo(f"{name}: sha256 {content}")


def _known(since: str, secret: bytes | None) -> Restored:
    """Return what whoever reads the new archive will have already."""
    from volplugin.archive.frames import FrameReader
    from volplugin.archive.reading import Nowhere, Restored, read_end

    if not since:
        return Restored(Nowhere())
    with places.source(since) as file:
        return read_end(FrameReader(file, since, secret))


def _begun(out: BinaryIO, to: str, secret: bytes | None, known: Restored, name: str) -> FrameReader:
    """Return the reader of what is there of the archive, which has reached its end; `known` has that, too."""
    from volplugin.archive.frames import FrameReader
    from volplugin.archive.reading import resume

    begun = FrameReader(out, str(places.partial(to)), secret)
    known.header = None

    def accept(header: Header) -> None:
        if header.volume != name:
            raise Conflict(f"cannot write {to}: {places.partial(to)} is of the volume {header.volume}; delete it")

    if places.is_file(to):
        with shown(f"reading {places.partial(to).name}") as bar:
            if not resume(begun, known, accept, bar):
                if begun.number:
                    raise Conflict(f"cannot write {to}: {places.partial(to)} is since another archive; delete it")
                begun = FrameReader(out, to, secret)
        out.seek(begun.position)
        out.truncate(begun.position)
    return begun


def _same(state_dir: Path, options: dict[str, str], image: staging.Image, base: Header | None) -> frozenset[int]:
    """Return the chunks that are as they were in the archive `base`, as the snapshot shows of which that was made.

    If it is still there: what has its name may be another one.
    """
    from volplugin.archive.contents import CHUNK_BYTES

    if base is None or not base.snapshot:
        return frozenset()
    path = _snapshot_path(state_dir, parse_name(base.volume), parse_snapshot_name(base.snapshot), options)
    if not path.exists():
        return frozenset()
    with staging.opened(path) as then:
        return image.same_as(then, CHUNK_BYTES) if then.identity == base.image else frozenset()


def _header(
    volume: str,
    options: dict[str, str],
    image: staging.Image,
    secret: bytes | None,
    known: Restored,
    begun: FrameReader,
) -> Header:
    from volplugin.archive.contents import Header
    from volplugin.archive.frames import CIPHER

    return Header(
        archive=known.header.archive if known.header else secrets.token_hex(16),
        volume=parse_origin(volume)[0],
        created_at=datetime.now(UTC).replace(microsecond=0),
        options=options | {"size": format_size(image.size)},
        size=image.size,
        data_bytes=image.allocated,
        salt=secrets.token_hex(32),
        cipher=CIPHER if secret else "",
        base=known.reference,
        frames=begun.number,
        snapshot=parse_origin(volume)[1],
        image=image.identity,
    )


def _read(archives: list[str], secret: bytes | None, into: Restored, accept: Callable[[Header], object]) -> None:
    from volplugin.archive.frames import FrameReader
    from volplugin.archive.reading import read_archive

    with shown("restore") as bar:
        for archive in archives:
            with places.source(archive) as file:
                read_archive(FrameReader(file, archive, secret), into, accept, bar)


def _parse_opts(given: list[str]) -> dict[str, str]:
    """Return the options by their keys. Raises: BadRequest: one is none, or is of what is in the archive."""
    found = dict(text.partition("=")[::2] for text in given)
    for key in found:
        if key in COPIED:
            raise BadRequest(f"cannot use -o {key} with an archive: it is as it was in the volume")
    return found


@contextmanager
def _image(state_dir: Path, text: str) -> Iterator[tuple[str, dict[str, str], staging.Image]]:
    """Inside the block the image of VOLUME now, or of VOLUME@SNAPSHOT, can be read; with the volume's name and options.

    The image of now is a snapshot that is removed as soon as it is open: whatever becomes of us, the kernel ends it.
    """
    name, snapshot = parse_origin(text)
    options = _options(state_dir, name)
    with ExitStack() as opened:
        if snapshot:
            path = _snapshot_path(state_dir, name, snapshot, options)
            image = opened.enter_context(staging.opened(path))
        else:
            with _snapshot(state_dir, name, options) as path:
                image = opened.enter_context(staging.opened(path))
        yield name, options, image


@contextmanager
def _files(state_dir: Path, text: str) -> Iterator[Path]:
    """Inside the block the files of VOLUME now, or of VOLUME@SNAPSHOT, are below the directory."""
    name, snapshot = parse_origin(text)
    options = _options(state_dir, name)
    staged = _layout(state_dir).staged_path(secrets.token_hex(16), _pool(options))
    with ExitStack() as opened:
        # To be mounted it has to be written to, for its log.
        if snapshot:
            image = opened.enter_context(staging.unnamed(staged.parent))
            image.fill(_snapshot_path(state_dir, name, snapshot, options))
        else:
            with _snapshot(state_dir, name, options) as path:
                image = opened.enter_context(staging.taken(path, staged))
        with private.mounted(image, staged.parent, options["fs"], writable=False) as root:
            _unlock(root / TREE, parse_options(options, 0))
            yield root / TREE


def _unlock(tree: Path, options: Loop | Bind) -> None:
    """What is in the tree can be read, also if it is encrypted. Raises: PluginError: it cannot, for want of the key."""
    source = key_source(options) if isinstance(options, Loop) else None
    if source is not None:
        # Whoever runs this may read any file.
        with Keys((source.path.parent,)).opened(source) as key:
            fscrypt.unlock(tree, key)


@contextmanager
def _snapshot(state_dir: Path, name: str, options: dict[str, str]) -> Iterator[Path]:
    """Inside the block there is a snapshot of the volume as it is now; whoever has opened it keeps it."""
    snapshot = f"backup-{secrets.token_hex(8)}"
    taken = SnapshotRequest(f"{name}@{snapshot}", Transient=True)
    admin.call("pyvol", state_dir, "Snapshots.Create", taken, dict)
    try:
        yield _snapshot_path(state_dir, name, snapshot, options)
    finally:
        admin.call("pyvol", state_dir, "Snapshots.Remove", taken, dict)


def _options(state_dir: Path, name: str) -> dict[str, str]:
    """Return the options of the volume, without what it was copied from. Raises: BadRequest: it has no image."""
    [volume] = admin.call("pyvol", state_dir, "Volumes.Inspect", InspectRequest((name,)), InspectAnswer).Volumes
    keys = {option.key for option in OPTIONS} - {"from"}
    options = {key: text for key, text in volume.Status.items() if key in keys or key.startswith("label.")}
    if options["backend"] != "loop":
        raise BadRequest(f"cannot back up {name}: it is a directory of the host")
    return options


def _publish(state_dir: Path, image: staging.Image, path: Path, name: str, options: dict[str, str]) -> None:
    """The image is the volume. path: the name that it has until then."""
    try:
        image.name(path)
        admin.call("pyvol", state_dir, "Archives.Adopt", AdoptRequest(name, options, path.name), dict)
    finally:
        path.unlink(missing_ok=True)


def _check(state_dir: Path, name: str, options: dict[str, str]) -> dict[str, str]:
    """Return all options of the volume that could be made now. Raises: PluginError: it could not."""
    return admin.call("pyvol", state_dir, "Archives.Check", CheckRequest(name, options), CheckAnswer).Opts


def _snapshot_path(state_dir: Path, volume: str, snapshot: str, options: dict[str, str]) -> Path:
    """Return where the content is of a snapshot of a volume with these options."""
    return _layout(state_dir).snapshot_path(volume, snapshot, options["fs"], _pool(options))


def _pool(options: dict[str, str]) -> str:
    """Return the pool that the options name; "": none. Raises: BadRequest."""
    try:
        return parse_pool(options["pool"]) if "pool" in options else ""
    except ValueError as exc:
        raise BadRequest(f"cannot use -o pool={options['pool'][:80]}: that is no name of a pool") from exc


def _layout(state_dir: Path) -> Layout:
    return Layout(state_dir / "volumes", state_dir / "mnt")

"""The format of archives: what was written is read, and nothing else is."""

from __future__ import annotations

import io
import os
import random
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pluginkit.errors import Exhausted, PluginError
from volplugin.archive.contents import CHUNK_BYTES, Header, Reference
from volplugin.archive.frames import CIPHER, MAGIC, FrameReader, FrameWriter
from volplugin.archive.progress import shown
from volplugin.archive.reading import Nowhere, Restored, read_archive
from volplugin.archive.writing import Known, write_archive
from volplugin.kernel.copies import staging
from volplugin.values import format_size

SECRETS = pytest.mark.parametrize("secret", [None, secrets.token_bytes(32)], ids=["plain", "sealed"])
SIZE = 9 * CHUNK_BYTES + 4096


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image with data here and there, zeros that are no hole, and a last chunk that is shorter."""
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.truncate(SIZE)
        for chunk, content in ((0, b"begin" * 1000), (3, os.urandom(20000)), (4, bytes(CHUNK_BYTES)), (7, b"x")):
            file.seek(chunk * CHUNK_BYTES + 5000)
            file.write(content)
        file.seek(SIZE - 3)
        file.write(b"end")
    return path


def header(secret: bytes | None, **fields: object) -> Header:
    given: dict[str, object] = {
        "archive": secrets.token_hex(16),
        "volume": "v",
        "created_at": datetime.now(UTC),
        "options": {"size": format_size(SIZE)},
        "size": SIZE,
        "data_bytes": 0,
        "salt": secrets.token_hex(32),
        "cipher": CIPHER if secret else "",
    }
    return Header(**{**given, **fields})  # type: ignore[arg-type]


def archive(image: Path, secret: bytes | None, **fields: object) -> bytes:
    out = io.BytesIO()
    with staging.opened(image) as source, shown("") as bar:
        write_archive(source, header(secret, **fields), FrameWriter(out, secret), Known({}), bar)
    return out.getvalue()


def read(content: bytes, secret: bytes | None, into: Restored | None = None) -> Restored:
    into = into or Restored(Nowhere())
    with shown("") as bar:
        read_archive(FrameReader(io.BytesIO(content), "a", secret), into, lambda _header: None, bar)
    return into


def frames(content: bytes) -> list[bytes]:
    """Return the archive in its parts: the first is what comes before the first frame, the last what follows them."""
    parts, position = [content[: len(MAGIC)]], len(MAGIC)
    while content[position : position + 8] != b"pyvolend":
        length = 13 + int.from_bytes(content[position + 9 : position + 13], "big")
        parts.append(content[position : position + length])
        position += length
    return [*parts, content[position:]]


@SECRETS
def test_an_image_and_its_equal(image: Path, tmp_path: Path, secret: bytes | None) -> None:
    content = archive(image, secret)
    assert len(content) < 40000
    with staging.unnamed(tmp_path) as copy:
        restored = read(content, secret, Restored(copy))
        copy.name(tmp_path / "copy")
        assert copy.allocated <= 64 << 10
    assert (tmp_path / "copy").read_bytes() == image.read_bytes()
    assert sorted(restored.digests) == [0, 3, 7, 9]
    assert restored.content == read(archive(image, None), None).content


@SECRETS
def test_every_alteration_and_every_truncation_is_refused(image: Path, secret: bytes | None) -> None:
    """200 at random, of each sort; the seed is printed when one is not."""
    content = archive(image, secret)
    read(content, secret)
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)

    def alter() -> bytes:
        position = chance.randrange(len(content))
        return content[:position] + bytes([content[position] ^ chance.randrange(1, 256)]) + content[position + 1 :]

    def truncate() -> bytes:
        return content[: chance.randrange(len(content))]

    def overwrite() -> bytes:
        position, length = chance.randrange(len(content)), chance.randrange(16, 5000)
        return content[:position] + chance.randbytes(length) + content[position + length :]

    def leave_out() -> bytes:
        position = chance.randrange(len(content))
        return content[:position] + content[position + chance.randrange(1, 5000) :]

    for number in range(200):
        for damage in (alter, truncate, overwrite, leave_out):
            with pytest.raises(PluginError):
                pytest.fail(f"seed {seed}, {damage.__name__} {number} passed: {read(damage(), secret)}")


@SECRETS
@pytest.mark.parametrize(
    "change",
    [
        lambda mine, _other: [*mine[:2], mine[3], mine[2], *mine[4:]],
        lambda mine, _other: [*mine[:2], *mine[3:]],
        lambda mine, _other: [*mine[:3], *mine[2:]],
        lambda mine, other: [*mine[:2], other[2], *mine[3:]],
        lambda mine, other: [*mine[:-2], *other[-2:]],
        lambda mine, other: [*other[:2], *mine[2:]],
        lambda mine, _other: [*mine, *mine],
        lambda mine, _other: [mine[0], *mine[2:]],
        lambda mine, other: [*mine[:-2], *other[1:]],
    ],
    ids=["swapped", "left out", "twice", "another's", "another's end", "another's header", "two", "none", "two in one"],
)
def test_whole_frames_that_are_not_where_they_were(
    image: Path, secret: bytes | None, change: Callable[[list[bytes], list[bytes]], list[bytes]]
) -> None:
    """With the right numbers written over them, which need no key."""
    mine, other = frames(archive(image, secret)), frames(archive(image, secret))
    parts = change(mine, other)
    for renumbered in (False, True):
        if renumbered:
            numbered = [part[:1] + number.to_bytes(8, "big") + part[9:] for number, part in enumerate(parts[1:-1])]
            parts = [parts[0], *numbered, parts[-1]]
        with pytest.raises(PluginError, match="cannot use the archive a: "):
            read(b"".join(parts), secret)


@SECRETS
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"size": SIZE + 4096}, "its header contradicts itself"),
        ({"options": {}}, "its header contradicts itself"),
        ({"frames": 1}, "its header contradicts itself"),
        ({"base": Reference("x", "y")}, "it has only what changed since the archive x; give that one before it"),
        ({"cipher": "rot13"}, "it is encrypted in a way that is not known here: 'rot13'"),
        ({"size": 2 * CHUNK_BYTES, "options": {"size": "2M"}}, "is of what lies beyond the volume's end"),
    ],
)
def test_headers_that_somebody_else_wrote(
    image: Path, secret: bytes | None, fields: dict[str, object], said: str
) -> None:
    with pytest.raises(PluginError) as refused:
        read(archive(image, secret, **fields), secret)
    assert said in str(refused.value)


def test_what_says_that_it_is_enormous(image: Path, tmp_path: Path) -> None:
    """Neither memory nor disk is taken for it."""
    with staging.unnamed(tmp_path) as copy:
        with pytest.raises(Exhausted, match=r"cannot restore: that takes 2048\.0PiB, and the disk has"):
            read(archive(image, None, data_bytes=1 << 61), None, Restored(copy))
        assert copy.allocated == 0
    parts = frames(archive(image, None))
    parts[2] = parts[2][:9] + (1 << 29).to_bytes(4, "big") + parts[2][13:]
    with pytest.raises(PluginError, match="it ends too early"):
        read(b"".join(parts), None)

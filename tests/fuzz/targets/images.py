"""Archives of images: any bytes to `docker load`, any description in a sound archive, any entries in a layer."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import shutil
import tarfile
import tempfile
from contextlib import closing, suppress
from pathlib import Path

from runtime.errors import ApiError
from runtime.images.load import load
from runtime.images.store import Images
from runtime.images.unpack import unpack
from runtime.state import State

BLOCK = 512
SHM = Path("/dev/shm")
TYPES = (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)
TYPES += (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE, b"Q")


def _tar(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


LAYER = _tar({"a": b"x"})
DIGEST = "sha256:" + hashlib.sha256(LAYER).hexdigest()
CONFIG = json.dumps({"rootfs": {"type": "layers", "diff_ids": [DIGEST]}}).encode()
MANIFEST = json.dumps([{"Config": "c", "RepoTags": ["a:b"], "Layers": ["l"]}]).encode()
INDEX = json.dumps({"manifests": [{"digest": "sha256:0", "platform": {"os": "linux"}, "annotations": {}}]}).encode()
SEEDS = (
    b"tar" + _tar({"manifest.json": MANIFEST, "c": CONFIG, "l": LAYER}),
    *(b"raw" + packed(LAYER) for packed in (bytes, gzip.compress, bz2.compress, lzma.compress)),
    b"tar" + gzip.compress(_tar({"manifest.json": MANIFEST, "c": CONFIG, "l": LAYER})),
    b"man" + MANIFEST + b"\n\n" + CONFIG,
    b"man" + MANIFEST + b"\n\n" + json.dumps({"rootfs": {"diff_ids": ["x"]}, "config": []}).encode(),
    b"idx" + INDEX,
    b"lay0a\n\n644\nx\n1d\n\n755\n\n2d/s\n../..\n777\n\n0d/s/f\n\n644\nout\n3h\na\n644\n\n0.wh.a\n\n644\n\n0d/.wh..wh..opq\n\n0\n",
    b"lay6p\n\n644\n30 SCHILY.xattr.user.a=bbbbbbb\n\n0a\n\n644\nx\n",
    b"lay6p\n\n644\n20 mtime=1e300\n\n0a\n\n644\nx\n",
)


def one_input(data: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=SHM if SHM.is_dir() else None) as name:
        root = Path(name)
        (root / "canary").write_bytes(b"untouched")
        kind, content = data[:3], data[3:]
        if kind == b"lay":
            _unpacked(_layer(content), root / "layer")
        elif kind == b"raw":
            _added(content, root)
        elif kind == b"idx":
            _loaded(_tar({"index.json": content, "blobs/sha256/0": content}), root)
        elif kind == b"man":
            manifest, _, config = content.partition(b"\n\n")
            _loaded(_tar({"manifest.json": manifest, "c": config, "l": LAYER}), root)
        else:
            _loaded(_summed(content), root)
        assert {path.name for path in root.iterdir()} <= {"canary", "layer", "images", "state"}
        assert (root / "canary").read_bytes() == b"untouched"


def _unpacked(archive: bytes, folder: Path) -> None:
    folder.mkdir()
    with suppress(ApiError):
        unpack(io.BytesIO(archive), folder)
    # Directories without permissions, and names of any form, are no hindrance to root.
    shutil.rmtree(folder)


def _added(layer: bytes, root: Path) -> None:
    with closing(State(root / "state" / "s.db")) as state:
        layers = Images(state, root / "images").layers
        with suppress(ApiError):
            digest = layers.add(io.BytesIO(layer))
            assert layers.path(digest).is_dir()
            assert layers.size(digest) >= 0


def _loaded(archive: bytes, root: Path) -> None:
    with closing(State(root / "state" / "s.db")) as state:
        images = Images(state, root / "images")
        with suppress(ApiError):
            for image, names in load(images, io.BytesIO(archive)):
                assert images.get(image.id) == image
                assert images.paths(image) == [images.layers.path(digest) for digest in image.layers]
                assert all(images.tags()[each] == image.id for each in names)
        assert not list(images.spool.iterdir())
        assert not list((root / "images" / "layers").glob("new-*")), "half a layer is left"


def _layer(content: bytes) -> bytes:
    """Entries of four lines: type and name, the other end of a link, mode, content. Their checksums are right."""
    lines = content.split(b"\n")
    out = bytearray()
    for index in range(0, len(lines) - 3, 4):
        named, link, mode, body = lines[index : index + 4]
        kind = TYPES[int(named[:1]) if named[:1].isdigit() else 0]
        size = len(body) + (1 if kind == tarfile.XHDTYPE else 0)
        block = bytearray(BLOCK)
        block[0:100] = named[1:101].ljust(100, b"\0")
        block[100:108] = mode[:8].ljust(8, b"\0")
        block[108:116] = block[116:124] = b"0000001\0"
        block[124:136] = b"%011o\0" % size
        block[136:148] = b"00000000001\0"
        block[156:157] = kind
        block[157:257] = link[:100].ljust(100, b"\0")
        block[257:265] = b"ustar\x0000"
        out += block + (body + b"\n" * (size - len(body))).ljust(-(-size // BLOCK) * BLOCK, b"\0")
    return _summed(bytes(out + bytes(2 * BLOCK)))


def _summed(archive: bytes) -> bytes:
    """The same, with right checksums in what look like headers."""
    blocks = bytearray(archive)
    for start in range(0, len(blocks) - BLOCK + 1, BLOCK):
        if blocks[start + 257 : start + 262] == b"ustar":
            blocks[start + 148 : start + 156] = b" " * 8
            blocks[start + 148 : start + 156] = b"%06o\0 " % sum(blocks[start : start + BLOCK])
    return bytes(blocks)

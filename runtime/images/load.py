"""`docker load`: the images of a docker-archive or an OCI layout, every digest checked.

Source: moby image/spec/v1.2 (manifest.json); OCI image-spec (image-layout.md, manifest.md, image-index.md).
"""

from __future__ import annotations

import hashlib
import json
import lzma
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

from runtime.errors import BadParameter
from runtime.images.reference import parse_reference
from runtime.images.store import ARCHITECTURE, Image, Images

_MAX_JSON = 16 * 1024 * 1024


def load(images: Images, archive: IO[bytes]) -> Iterator[tuple[Image, list[str]]]:
    """Yield each image of the archive with its names when it is there, whole.

    Raises: BadParameter: the archive is neither, is damaged, or hostile.
    """
    with tempfile.TemporaryFile(dir=images.spool) as spooled:
        shutil.copyfileobj(archive, spooled, 1 << 20)
        spooled.seek(0)
        try:
            with tarfile.open(fileobj=spooled) as content:
                if "manifest.json" in content.getnames():
                    yield from _docker_archive(images, content)
                elif "index.json" in content.getnames():
                    yield from _oci_layout(images, content, _json(content, "index.json"))
                else:
                    raise BadParameter("cannot load the archive: it has neither manifest.json nor index.json")
        except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error, lzma.LZMAError) as exc:
            raise BadParameter(f"cannot load the archive: {exc}; is it one of `docker save`?") from exc
        except (LookupError, TypeError, AttributeError) as exc:
            raise BadParameter(f"cannot load the archive: its description lacks {exc}") from exc


def _docker_archive(images: Images, content: tarfile.TarFile) -> Iterator[tuple[Image, list[str]]]:
    for manifest in _json(content, "manifest.json"):
        configuration = _small(content, manifest["Config"])
        layers = [(content, name) for name in manifest["Layers"]]
        yield _add(images, configuration, layers, manifest.get("RepoTags") or [])


def _oci_layout(images: Images, content: tarfile.TarFile, index: Any) -> Iterator[tuple[Image, list[str]]]:
    for descriptor in index["manifests"]:
        platform = descriptor.get("platform") or {}
        if platform.get("architecture", ARCHITECTURE) != ARCHITECTURE or platform.get("os", "linux") != "linux":
            continue
        manifest = _parsed(_blob(content, descriptor["digest"]), descriptor["digest"])
        if "manifests" in manifest:
            yield from _oci_layout(images, content, manifest)
            continue
        notes = descriptor.get("annotations") or {}
        name = notes.get("io.containerd.image.name") or notes.get("org.opencontainers.image.ref.name") or ""
        configuration = _blob(content, manifest["config"]["digest"])
        layers = [(content, _blob_name(layer["digest"])) for layer in manifest["layers"]]
        yield _add(images, configuration, layers, [name] if name else [])


def _add(
    images: Images, configuration: bytes, layers: list[tuple[tarfile.TarFile, str]], names: list[str]
) -> tuple[Image, list[str]]:
    references = [parse_reference(name) for name in names]
    digests = _parsed(configuration, "the configuration")["rootfs"]["diff_ids"]
    if len(digests) != len(layers):
        raise BadParameter(f"cannot load {names}: it has {len(layers)} layers and the digests of {len(digests)}")
    with images.turn:
        for digest, (content, name) in zip(digests, layers, strict=True):
            # The layer's digest is of what is unpacked, so that of the blob, packed, adds nothing.
            images.layers.add(_member(content, name), digest)
        image = images.add(configuration)
        for reference in references:
            images.tag(image.id, reference)
    return image, references


def _member(content: tarfile.TarFile, name: str) -> IO[bytes]:
    found = content.extractfile(name)
    if found is None:
        raise BadParameter(f"cannot load the archive: {name} is no file in it")
    return found


def _small(content: tarfile.TarFile, name: str) -> bytes:
    text = _member(content, name).read(_MAX_JSON + 1)
    if len(text) > _MAX_JSON:
        raise BadParameter(f"cannot load the archive: {name} has more than {_MAX_JSON} bytes")
    return text


def _json(content: tarfile.TarFile, name: str) -> Any:
    return _parsed(_small(content, name), name)


def _parsed(text: bytes, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise BadParameter(f"cannot load the archive: {name} is no JSON") from exc


def _blob_name(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/", 1)


def _blob(content: tarfile.TarFile, digest: str) -> bytes:
    blob = _small(content, _blob_name(digest))
    if "sha256:" + hashlib.sha256(blob).hexdigest() != digest:
        raise BadParameter(f"cannot load the archive: blob {digest} has another digest")
    return blob

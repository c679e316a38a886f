"""Images by id (the digest of their configuration) and by name."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import platform
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from runtime.errors import BadParameter, Conflict, NotFound
from runtime.images.layers import Layers
from runtime.images.reference import parse_reference
from runtime.state import Record, State

_IMAGE, _TAG = "image", "tag"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
ARCHITECTURE = _ARCHITECTURES.get(platform.machine(), platform.machine())


@dataclass(frozen=True)
class Image:
    """An image. `content` is its OCI configuration, word for word that of which `id` is the digest."""

    id: str
    content: dict[str, Any]
    size: int

    @property
    def layers(self) -> list[str]:
        """The digests of its layers, lowest first."""
        return list(self.content["rootfs"]["diff_ids"])

    @property
    def config(self) -> dict[str, Any]:
        """What containers inherit."""
        return self.content.get("config") or {}


class Images:
    """The images and their layers below `folder`."""

    def __init__(self, state: State, folder: Path) -> None:
        self._state = state
        self.layers = Layers(state, folder / "layers")
        self.spool = folder / "spool"
        self.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.turn = threading.RLock()
        for left in self.spool.iterdir():
            left.unlink()

    def create(self, archive: IO[bytes], config: dict[str, Any], comment: str, name: str) -> Image:
        """An image with the archive as its only layer exists, named `name` if one is given.

        Raises: BadParameter.
        """
        reference = parse_reference(name) if name else ""
        with self.turn:
            digest = self.layers.add(archive)
            now = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
            content = {
                "architecture": ARCHITECTURE, "os": "linux", "created": now, "config": config, "comment": comment,
                "rootfs": {"type": "layers", "diff_ids": [digest]}, "history": [{"created": now, "comment": comment}],
            }  # fmt: skip
            image = self.add(json.dumps(content).encode())
            if reference:
                self.tag(image.id, reference)
            return image

    def add(self, configuration: bytes) -> Image:
        """The image of this configuration exists; its layers must.

        Raises: BadParameter: it is no image configuration.
        """
        try:
            content = json.loads(configuration)
            layers = content["rootfs"]["diff_ids"]
        except (ValueError, KeyError, TypeError) as exc:
            raise BadParameter("cannot add the image: its configuration is no OCI image configuration") from exc
        image = Image(
            "sha256:" + hashlib.sha256(configuration).hexdigest(), content, sum(map(self.layers.size, layers))
        )
        self._state.put(_IMAGE, image.id, {"text": configuration.decode(), "size": image.size})
        return image

    def tag(self, image_id: str, reference: str) -> None:
        """The name means this image, and no other one any more."""
        self._state.put(_TAG, reference, {"image": image_id})

    def tags(self) -> dict[str, str]:
        """Return image ids by name."""
        return {name: record["image"] for name, record in self._state.all(_TAG).items()}

    def all(self) -> list[Image]:
        """Return every image."""
        return [_image(key, record) for key, record in self._state.all(_IMAGE).items()]

    def get(self, wanted: str) -> Image:
        """Return the image of this name, id, or unambiguous beginning of an id.

        Raises: NotFound, BadParameter.
        """
        with contextlib.suppress(BadParameter):
            if record := self._state.get(_TAG, parse_reference(wanted)):
                return self._by_id(record["image"])
        if re.fullmatch(r"(sha256:)?[0-9a-f]{4,64}", wanted):
            beginning = "sha256:" + wanted.removeprefix("sha256:")
            found = [key for key in self._state.all(_IMAGE) if key.startswith(beginning)]
            if len(found) > 1:
                raise BadParameter(f"cannot tell which image {wanted} is: {len(found)} ids begin so; give more of it")
            if found:
                return self._by_id(found[0])
        if "@" not in wanted and not re.fullmatch(r"sha256:.*", wanted):
            wanted = parse_reference(wanted)
        raise NotFound(f"No such image: {wanted}")

    def remove(self, wanted: str, used: set[str], force: bool) -> list[dict[str, str]]:
        """The name is gone, and with its last one the image, if no container is made from it (`used`).

        Raises: NotFound, Conflict.
        """
        with self.turn:
            image = self.get(wanted)
            names = [name for name, owner in self.tags().items() if owner == image.id]
            by_name = not re.fullmatch(r"(sha256:)?[0-9a-f]{4,64}", wanted) or wanted in names
            named = parse_reference(wanted) if by_name else ""
            if named in names and len(names) > 1:
                self._state.delete(_TAG, named)
                return [{"Untagged": named}]
            if not named and len(names) > 1 and not force:
                raise Conflict(
                    f"cannot remove image {wanted}: it has the names {', '.join(names)}; remove by name or -f"
                )
            if image.id in used and not (named and force):
                raise Conflict(f"cannot remove image {wanted}: containers are made from it; remove them first")
            for name in names:
                self._state.delete(_TAG, name)
            gone = [{"Untagged": name} for name in names]
            if image.id not in used:
                self._state.delete(_IMAGE, image.id)
                gone.append({"Deleted": image.id})
                gone += [{"Deleted": digest} for digest in self.layers.keep_only(self._wanted_layers())]
            return gone

    def prune(self, used: set[str], only_unnamed: bool) -> list[dict[str, str]]:
        """No image is left that no container uses and that has no name (`only_unnamed`), or whatever its names."""
        gone: list[dict[str, str]] = []
        with self.turn:
            named = set(self.tags().values())
            for image in self.all():
                if image.id not in used and not (only_unnamed and image.id in named):
                    gone += self.remove(image.id, used, force=True)
        return gone

    def paths(self, image: Image) -> list[Path]:
        """Return the directories of its layers, topmost first, as overlayfs wants them."""
        return [self.layers.path(digest) for digest in reversed(image.layers)]

    def _by_id(self, image_id: str) -> Image:
        record = self._state.get(_IMAGE, image_id)
        if record is None:
            raise NotFound(f"No such image: {image_id}")
        return _image(image_id, record)

    def _wanted_layers(self) -> set[str]:
        return {digest for image in self.all() for digest in image.layers}


def _image(image_id: str, record: Record) -> Image:
    return Image(image_id, json.loads(record["text"]), record["size"])
